"""What the kernel says about memory: limits, and how often it killed for want of it."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

RECENT_SECONDS = 15.0
"""A kill this long before a process was found to have ended can be why it did: a large one takes seconds to be gone."""
PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_COUNTERS = ("memory.events", "memory.oom_control")
"""Where cgroups count, of version 2 and 1."""
_LIMITS = ("memory.max", "memory.limit_in_bytes")
UNLIMITED = 1 << 60
"""Version 1 spells no limit as a number."""


def own_cgroup(proc: Path = PROC / "self/cgroup", root: Path = _CGROUP) -> Path | None:
    """The folder of this process's cgroup that counts memory, of either version; None = there is none.

    The root of the machine counts nothing; a container sees its own group as the root.
    """
    for line in _lines(proc):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and "memory" not in names.split(","):
            continue
        base = root / "memory" if names else root
        for folder in (base / path.strip().lstrip("/"), base):
            if any((folder / name).is_file() for name in _COUNTERS):
                return folder
    return None


def oom_kills(cgroup: Path | None, vmstat: Path = PROC / "vmstat") -> int:
    """Processes killed for memory so far: of the cgroup, or of the whole machine where none counts."""
    for source in [cgroup / name for name in _COUNTERS] if cgroup else [vmstat]:
        for line in _lines(source):
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.strip().isdigit():
                return int(value)
    return 0


def memory_limit(cgroup: Path | None) -> int | None:
    """The cgroup's memory limit in bytes; None = unlimited or unknown."""
    for source in [cgroup / name for name in _LIMITS] if cgroup else []:
        lines = _lines(source)
        if lines and lines[0].isdigit() and int(lines[0]) < UNLIMITED:
            return int(lines[0])
    return None


def has_others(cgroup: Path | None, session: int, proc: Path = PROC) -> bool:
    """Whether kills are counted there of more than this process and those of a session: of another replica, a shell."""
    if cgroup is None:
        return True
    pids = [int(line) for line in _lines(cgroup / "cgroup.procs") if line.isdigit()]
    return any(pid != os.getpid() and session_of(proc / str(pid)) not in (None, session) for pid in pids)


def session_of(process: Path) -> int | None:
    """The session of a process's folder in /proc; None when it is gone, 0 when it began outside (of a container).

    The name, in parentheses, may have anything.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    return None


class Kills:
    """Kills for memory that are recent enough to be why a process ended: an earlier one was of another process."""

    def __init__(self, count: int, now: float) -> None:
        self._seen = deque([(now, count)])

    def seen(self, count: int, now: float) -> None:
        """The counter as it is now; to be told every few seconds."""
        self._seen.append((now, count))
        while len(self._seen) > 1 and self._seen[1][0] <= now - RECENT_SECONDS:
            self._seen.popleft()

    @property
    def recent(self) -> int:
        """Since the last time that it was told RECENT_SECONDS ago or earlier."""
        return self._seen[-1][1] - self._seen[0][1]


def _lines(path: Path) -> list[str]:
    """Lines of a kernel file; none where this kernel does not have it."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
