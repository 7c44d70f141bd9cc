"""Daemons of the cluster: started once, each with a log and a pid file, all inside one control group tree."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.console import ClusterError
from cluster.layout import CGROUP, State

CGROUPS = Path("/sys/fs/cgroup")
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Started by this very process, and so for it to reap."""


def start(state: State, name: str, command: Sequence[str | Path], cgroup: str = "") -> None:
    """Start a daemon unless it runs. `cgroup` (below CGROUP) is joined before exec, so that no child escapes it."""
    if alive(state, name):
        return
    log, pid = state.log(name), state.pid(name)
    for file in (log, pid):
        file.parent.mkdir(parents=True, exist_ok=True)
    joined = create_cgroup(cgroup) if cgroup else []
    # A shell joins the group as itself and becomes the daemon: the same on every Python, and without a preexec hook.
    script = "".join(f'echo $$ > "{folder}/cgroup.procs"; ' for folder in joined) + 'exec "$@"'
    with log.open("ab") as output:
        child = subprocess.Popen(
            ["/bin/sh", "-ec", script, name, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    pid.write_text(f"{child.pid} {_born(child.pid)}\n")
    _children[child.pid] = child


def pid_of(state: State, name: str) -> int | None:
    """The daemon's pid while that very process lives (its start time is kept beside it)."""
    try:
        number, born = state.pid(name).read_text().split()
    except (OSError, ValueError):
        return None
    return int(number) if _born(int(number)) == born else None


def alive(state: State, name: str) -> bool:
    """Whether the daemon runs."""
    return pid_of(state, name) is not None


def stop(state: State, name: str, seconds: float = 5) -> None:
    """SIGTERM, then SIGKILL; the pid file goes when the process has gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if (pid := pid_of(state, name)) is None:
            break
        os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while pid_of(state, name) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        _reap(pid, seconds)
    state.pid(name).unlink(missing_ok=True)


def _reap(pid: int, seconds: float) -> None:
    """A process looks like a zombie as soon as its first thread has ended, and can be waited for once all have."""
    if (child := _children.get(pid)) is not None:
        with suppress(subprocess.TimeoutExpired):
            child.wait(0 if _born(pid) else seconds)
            del _children[pid]


def hierarchies() -> list[Path]:
    """Every mounted hierarchy; ClusterError on a machine without version 1 controllers (`kind` serves those)."""
    found = sorted({folder.resolve() for folder in CGROUPS.iterdir() if (folder / "cgroup.procs").exists()})
    if not any((folder / "tasks").exists() for folder in found):
        raise ClusterError(
            f"{CGROUPS} has no version 1 control groups.", "Use E2E_PROVIDER=kind with a Docker or Podman engine."
        )
    return found


def create_cgroup(name: str) -> list[Path]:
    """CGROUP/name in every hierarchy; a cpuset takes its parent's processors, without which no process may join."""
    made = []
    for root in hierarchies():
        folder = root
        for part in (CGROUP, *name.split("/")):
            parent, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (folder / file).exists() and not (folder / file).read_text().strip():
                    (folder / file).write_text((parent / file).read_text())
        made.append(folder)
    return made


@contextmanager
def joined(group: str) -> Iterator[None]:
    """Be in CGROUP/group for the length of a block: children of one who is killed are found by `kill_members`."""
    before = {root: _group_in(root) for root in hierarchies()}
    for folder in create_cgroup(group):
        _move(folder)
    try:
        yield
    finally:
        for folder in before.values():
            _move(folder)


def _group_in(hierarchy: Path) -> Path:
    """This process's own group in a hierarchy; its root where that group lies outside of what is mounted here."""
    wanted = "" if hierarchy.name == "unified" else hierarchy.name
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers.removeprefix("name=") == wanted and (hierarchy / path.lstrip("/")).is_dir():
            return hierarchy / path.lstrip("/")
    return hierarchy


def _move(folder: Path) -> None:
    (folder / "cgroup.procs").write_text(f"{os.getpid()}\n")


def members() -> set[int]:
    """Every process in the cluster's control groups, of whatever program."""
    found: set[int] = set()
    for root in hierarchies():
        for file in (root / CGROUP).glob("**/cgroup.procs"):
            try:
                found.update(int(line) for line in file.read_text().split())
            except OSError:  # the group went away while we looked
                continue
    return found - {os.getpid()}


def kill_members(seconds: float = 20) -> None:
    """SIGKILL until none is left: whoever forks meanwhile is caught by the next look. ClusterError when some stay."""
    deadline = time.monotonic() + seconds
    while remaining := members():
        if time.monotonic() > deadline:
            raise ClusterError(f"These processes can't be ended: {sorted(remaining)}.", "Look at them with ps.")
        for pid in remaining:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def remove_cgroups() -> None:
    """The empty groups, deepest first."""
    for root in hierarchies():
        folders = [*(root / CGROUP).glob("**/"), root / CGROUP]
        for folder in sorted(set(folders), key=lambda f: len(f.parts), reverse=True):
            _remove(folder)


def _remove(folder: Path) -> None:
    """A group stays busy for a moment after its last process has gone."""
    for _ in range(100):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise ClusterError(f"The control group {folder} can't be removed.", "Look at its cgroup.procs.")


def _born(pid: int) -> str:
    """Start time in clock ticks; empty when there is no such process or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
