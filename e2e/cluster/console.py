"""What the user sees (one line per stage, with its time) and how programs are run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class ClusterError(Exception):
    """Something the user can act on: what failed, and what to do."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Print what is being done, then how long it took."""
    print(f"==> {what}", flush=True)
    started = time.monotonic()
    yield
    print(f"    {what}: {time.monotonic() - started:.1f} s", flush=True)


def run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, input: str = "") -> str:
    """Run to the end and return stdout; ClusterError with the last lines of its output when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, env={**os.environ, **(env or {})}, cwd=cwd, input=input, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]} is not installed.", "Run `make cluster`, which installs it.") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ClusterError(f"`{shlex.join(words)[:300]}` failed with exit code {done.returncode}:\n{tail}")
    return done.stdout


def run_logged(log: Path, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a long command with its output in `log`; ClusterError quotes the log's end."""
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        code = subprocess.run(
            words, env={**os.environ, **(env or {})}, cwd=cwd, stdout=file, stderr=subprocess.STDOUT
        ).returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-15:])
        raise ClusterError(f"`{shlex.join(words)[:200]}` failed with exit code {code}:\n{tail}", f"Whole log: {log}")


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
