"""Where the cache keeps things: `models/<scheme>/<owner--name>/<revision>/` and `headers/` beside it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmservice_runtime.sources.files import Source

PARTIAL_SUFFIX = ".partial"
LOCK_SUFFIX = ".lock"
TRASH_SUFFIX = ".trash"


def safe_revision(revision: str) -> str:
    """A revision as a folder name (`sha256:...` has a colon)."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in revision).lstrip(".") or "unversioned"


def model_folder(cache: Path, source: Source) -> Path:
    """Where the files of a source stand once they are complete."""
    scheme, name, revision = source.slot
    return cache / "models" / scheme / name / safe_revision(revision)


def partial_folder(target: Path) -> Path:
    """Where a download is assembled; same disk, so that publishing is a rename."""
    return target.with_name(f".{target.name}{PARTIAL_SUFFIX}")


def lock_path(target: Path) -> Path:
    """The file whose lock the one downloader of a revision holds; its text says who."""
    return target.with_name(f".{target.name}{LOCK_SUFFIX}")


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an inter-process lock, or yield False when another holds it. The kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield True
    finally:
        os.close(descriptor)
