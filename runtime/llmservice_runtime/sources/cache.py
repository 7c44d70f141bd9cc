"""Where the cache keeps things: `models/<scheme>/<owner--name>/<revision>/` and `headers/` beside it; pruning."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Collection, Iterator
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


def prune(cache: Path, keep: Collection[Path]) -> int:
    """Delete every revision (and abandoned download) that is not in `keep`; returns the bytes freed.

    `keep` holds folders as `fetch` returned them. A revision being downloaded now is left alone. A revision vanishes
    at once by a rename, so that no reader sees half of it.
    """
    kept = {path.resolve() for path in keep}
    freed = 0
    for target in list(_revisions(cache)):
        if target.resolve() in kept:
            continue
        with try_lock(lock_path(target)) as mine:
            if not mine:
                continue
            for folder in (target, partial_folder(target)):
                freed += _remove(folder)
    return freed


def _revisions(cache: Path) -> Iterator[Path]:
    """Every revision that has a folder or an abandoned download."""
    seen: set[Path] = set()
    for folder in sorted((cache / "models").glob("*/*/*")):
        name = folder.name
        if name.startswith("."):
            if not name.endswith((PARTIAL_SUFFIX, TRASH_SUFFIX)):
                continue
            name = name[1:].removesuffix(TRASH_SUFFIX).removesuffix(PARTIAL_SUFFIX)
        target = folder.with_name(name)
        if target not in seen:
            seen.add(target)
            yield target


def _remove(folder: Path) -> int:
    trash = folder.with_name(f".{folder.name.lstrip('.')}{TRASH_SUFFIX}")
    if folder.exists():
        shutil.rmtree(trash, ignore_errors=True)
        folder.rename(trash)
    size = sum(file.stat().st_size for file in trash.rglob("*") if file.is_file()) if trash.exists() else 0
    shutil.rmtree(trash, ignore_errors=True)
    return size
