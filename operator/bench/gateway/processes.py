"""One proxy as a process: how it comes up, and what the kernel says that it took."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gateway.clients import read, seen_of
from bench.gateway.paces import DECODING
from bench.gateway.rivals import RIVALS
from bench.process import free_port

OURS = ("ours", "aiohttp", "aiohttp-uvloop", "splice")
START_SECONDS, TRY_SECONDS = 120.0, 10.0
END_SECONDS = 10.0


class NotServingError(Exception):
    """A proxy did not come up; with the end of what it said."""


def many_files(wanted: int) -> None:
    """Let this process, and those it starts, have as many connections as the machine allows. SystemExit if too few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < wanted:
        raise SystemExit(f"error: a process may open {most} files, and {wanted} are needed\nfix: ulimit -Hn {wanted}")


@contextmanager
def proxy(name: str, engine_port: int) -> Iterator[tuple[int, int]]:
    """(pid, port) of one that serves. Errors of who fetches it, and NotServingError."""
    if name in OURS:
        with role(name, engine_port) as found:
            yield found
        return
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as folder:
        port = free_port()
        start = RIVALS[name](engine_port, port, Path(folder))
        log = Path(folder) / "log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                start.command, env={**os.environ, **start.environment}, stdout=output, stderr=output, cwd=folder
            )
        try:
            _until_it_serves(child, port, log)
            yield child.pid, port
        finally:
            _end(child)


@contextmanager
def role(name: str, engine_port: int = 0) -> Iterator[tuple[int, int]]:
    """(pid, port) of one of our own (roles.py)."""
    command = [sys.executable, "-m", "bench.gateway.roles", name, str(engine_port)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child.pid, int(child.stdout.readline())
    finally:
        _end(child)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, by its clock: to the nanosecond, where /proc has hundredths of a second."""
    return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED of that process


def peak_memory(pid: int) -> int:
    """Bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _until_it_serves(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until a whole stream comes through."""
    until = time.monotonic() + START_SECONDS
    while not asyncio.run(seen_of(read, port, DECODING, TRY_SECONDS)).whole:
        if child.poll() is not None or time.monotonic() > until:
            raise NotServingError(" ".join(log.read_text(errors="replace").split())[-300:] or "it said nothing")
        time.sleep(0.2)


def _end(child: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
