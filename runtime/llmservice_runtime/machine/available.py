"""Memory that a process may still take, now."""

from __future__ import annotations

from pathlib import Path


def available_memory() -> int:
    """Bytes this process may still take: the machine's, or less where a cgroup limits it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except OSError:
        return machine
    return machine if limit == "max" else min(machine, max(0, int(limit) - used))
