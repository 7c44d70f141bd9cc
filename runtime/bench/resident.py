"""What a supervisor and its engine's processes hold, as if no other process had the same files in memory."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Process:
    """One process, in bytes: what is its own (anonymous and shared memory by its share), and of each file."""

    command: str
    own: int
    shared: int
    files: dict[str, int]


@dataclass(frozen=True, slots=True)
class Held:
    """All of them."""

    processes: tuple[Process, ...]

    @property
    def files(self) -> dict[str, int]:
        """Bytes of each file, which processes of one replica share."""
        most: dict[str, int] = defaultdict(int)
        for process in self.processes:
            for name, size in process.files.items():
                most[name] = max(most[name], size)
        return most

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(process.own + process.shared for process in self.processes) + sum(self.files.values())

    def describe(self) -> Iterator[str]:
        """A line for every process, the largest files, the sum."""
        for process in self.processes:
            own, shared, files = (size / MIB for size in (process.own, process.shared, sum(process.files.values())))
            yield f"  {process.command[:60]:60} own {own:8.1f} shared {shared:6.1f} files {files:8.1f}"
        for name, size in sorted(self.files.items(), key=lambda item: -item[1])[:8]:
            yield f"    {size / MIB:8.1f} {name}"
        yield f"  sum {self.total / MIB:.1f}, files {sum(self.files.values()) / MIB:.1f}"


def held(supervisor: int) -> Held:
    """Of a supervisor and everything below it."""
    parents = {int(p.name): _parent(p) for p in PROC.iterdir() if p.name.isdigit()}
    family = {supervisor}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return Held(tuple(filter(None, map(_process, sorted(family)))))


def _parent(process: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _process(pid: int) -> Process | None:
    own = shared = 0
    files: dict[str, int] = defaultdict(int)
    name = ""
    try:
        command = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for line in (PROC / str(pid) / "smaps").read_text().splitlines():
            key, _, rest = line.partition(" ")
            if not key.endswith(":"):
                parts = line.split(maxsplit=5)
                name = parts[5] if len(parts) > 5 else ""
                name = name if name.startswith("/") else ""
                continue
            size = int(rest.split()[0]) * 1024 if rest.split()[-1] == "kB" else 0
            if key == "Rss:":
                resident = size
            elif key == "Pss:":
                share = size
            elif key == "Anonymous:":  # of a private mapping, what was written
                if not name:
                    own += share
                elif name.startswith(("/dev/shm", "/memfd", "/SYSV")):
                    shared += share
                else:
                    own += size
                    files[name] += resident - size
    except (OSError, ValueError):
        return None
    return Process(command, own, shared, dict(files))
