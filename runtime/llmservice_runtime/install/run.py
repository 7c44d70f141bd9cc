"""A program that takes long, run with its output in a log and its progress shown."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.progress import ProgressLine


def run_logged(command: Sequence[str], progress: ProgressLine, log: Path, env: Mapping[str, str], what: str) -> None:
    """Run a command, its output to `log` and to `progress`; InstallError quotes the log's errors and names it."""
    with log.open("ab") as file:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, bufsize=0)
        assert child.stdout is not None
        try:
            rest = b""
            while chunk := _read_showing_time(child.stdout.fileno(), progress):
                file.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    progress.feed(line.decode(errors="replace"))
        except BaseException:
            child.terminate()
            raise
        finally:
            child.stdout.close()
            code = child.wait()
    if code != 0:
        end = log.read_text(errors="replace").splitlines()[-400:]
        raise InstallError(f"{what} failed: {_error_of(end)}", f"The whole log is {log}.")


def _read_showing_time(fd: int, progress: ProgressLine) -> bytes:
    """The next output; while none comes the clock on the progress line goes on. Empty = the end."""
    while not select.select([fd], [], [], 1.0)[0]:
        progress.tick()
    return os.read(fd, 64 * 1024)


def _error_of(lines: Sequence[str]) -> str:
    """The first compiler or configuration error, else pip's or uv's, else the last line."""
    for mark in (" error: ", "CMake Error", "fatal error", "No space left", "ERROR:", "× ", "error: "):
        for number, line in enumerate(lines):
            if mark in line:
                following = lines[number + 1].strip() if number + 1 < len(lines) else ""
                cause = f" {following}" if following.startswith(("cause:", "Caused by:")) else ""
                return (line.strip() + cause)[:300]
    return lines[-1].strip()[:300] if lines else "it wrote nothing"
