"""What the user sees (a line per stage with its time, one now and then in a long one) and how programs are run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO


class ClusterError(Exception):
    """Something the user can act on: what failed, and what to do."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


TELL_SECONDS = 15.0
_stage: ContextVar[str] = ContextVar("stage", default="")


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Print what is being done, then how long it took."""
    print(f"==> {what}", flush=True)
    started = time.monotonic()
    token = _stage.set(what)
    try:
        yield
    finally:
        _stage.reset(token)
    print(f"    {what}: {time.monotonic() - started:.1f} s", flush=True)


class Clock:
    """Tells every TELL_SECONDS that something still goes on, and for how long."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = self._told = time.monotonic()

    def tell(self, doing: str = "") -> None:
        """Print a line, unless there was one just now. `doing`: where it stands."""
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            print(f"    {self._what}: {now - self._started:.0f} s{doing and f', {doing}'}", flush=True)


def run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, input: str = "") -> str:
    """Run to the end and return stdout; ClusterError with the last lines of its output when it fails."""
    words = [str(word) for word in command]
    clock = Clock(_stage.get() or Path(words[0]).name)
    with _started(words, env, cwd, (subprocess.PIPE, subprocess.PIPE, subprocess.PIPE)) as child:
        unsent: str | None = input
        while True:
            try:
                output, errors = child.communicate(unsent, timeout=TELL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                unsent = None
                clock.tell()
    if child.returncode != 0:
        tail = "\n".join((output + errors).strip().splitlines()[-15:])
        raise ClusterError(f"`{shlex.join(words)[:300]}` failed with exit code {child.returncode}:\n{tail}")
    return str(output)


def run_logged(log: Path, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a long command with its output in `log`, telling its last line; ClusterError quotes the log's end."""
    words = [str(word) for word in command]
    clock = Clock(_stage.get() or Path(words[0]).name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file, _started(words, env, cwd, (subprocess.DEVNULL, file, subprocess.STDOUT)) as child:
        while child.poll() is None:
            try:
                child.wait(TELL_SECONDS)
            except subprocess.TimeoutExpired:
                clock.tell("".join(_end_of(log, 1))[:80])
    if child.returncode != 0:
        tail = "\n".join(_end_of(log, 15))
        raise ClusterError(
            f"`{shlex.join(words)[:200]}` failed with exit code {child.returncode}:\n{tail}", f"Whole log: {log}"
        )


@contextmanager
def _started(
    words: list[str], env: Mapping[str, str] | None, cwd: Path | None, streams: tuple[int, int | IO[str], int]
) -> Iterator[subprocess.Popen[str]]:
    """A child that does not outlive an interruption of the block. `streams`: its input, output and errors."""
    given, output, errors = streams
    try:
        child = subprocess.Popen(
            words, env={**os.environ, **(env or {})}, cwd=cwd, stdin=given, stdout=output, stderr=errors, text=True
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]} is not installed.", "Run `make cluster`, which installs it.") from error
    with child:
        try:
            yield child
        except BaseException:
            child.kill()
            raise


def _end_of(log: Path, lines: int) -> list[str]:
    return log.read_text(errors="replace").strip().splitlines()[-lines:]


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 60, log: Path | None = None) -> None:
    """Ask every 0.1 s until it is so; ClusterError with the log's end after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:]) if log and log.exists() else ""
            raise ClusterError(f"{what} is not ready after {seconds:.0f} s.\n{tail}", f"Log: {log}" if log else "")
        time.sleep(0.1)


def warn(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)
