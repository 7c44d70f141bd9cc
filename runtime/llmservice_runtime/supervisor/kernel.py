"""What the kernel says about memory: limits, and how often it killed for want of it."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def own_cgroup(proc: Path = Path("/proc/self/cgroup"), root: Path = _CGROUP) -> Path:
    """This process's cgroup v2 folder; the root where there is none (a container sees its own group as the root)."""
    for line in _lines(proc):
        if line.startswith("0::"):
            folder = root / line[3:].strip().lstrip("/")
            return folder if folder.is_dir() else root
    return root


def oom_kills(cgroup: Path, vmstat: Path = Path("/proc/vmstat")) -> int:
    """Processes killed for memory so far: of the cgroup, or of the whole machine where the cgroup does not count."""
    for source in (cgroup / "memory.events", vmstat):
        for line in _lines(source):
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.strip().isdigit():
                return int(value)
    return 0


def memory_limit(cgroup: Path) -> int | None:
    """The cgroup's memory limit in bytes; None = unlimited or unknown."""
    lines = _lines(cgroup / "memory.max")
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> list[str]:
    """Lines of a kernel file; none where this kernel does not have it."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
