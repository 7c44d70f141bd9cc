"""Where the cache keeps things: `models/<scheme>/<owner--name>/<revision>/` and `headers/` beside it.

Engines load all weights of a folder that they are pointed at. So files that were chosen among others stand in a folder
of their own, `<revision>+<digest of what chose them>/`; what both folders have is one file with two names.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from llmservice_runtime.sources.files import FileEntry, Source

PARTIAL_SUFFIX = ".partial"
LOCK_SUFFIX = ".lock"
TRASH_SUFFIX = ".trash"
CHOSEN = "+"
"""Behind the revision, before what chose files of it; `safe_revision` has none."""


def safe_revision(revision: str) -> str:
    """A revision as a folder name (`sha256:...` has a colon)."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in revision).lstrip(".") or "unversioned"


def model_folder(cache: Path, source: Source, chosen_by: Collection[str] = ()) -> Path:
    """Where the files of a source stand once they are complete; no others stand beside those that patterns chose."""
    scheme, name, revision = source.slot
    patterns = "\0".join(sorted({pattern.casefold() for pattern in chosen_by}))
    chosen = f"{CHOSEN}{hashlib.sha256(patterns.encode()).hexdigest()[:8]}" if chosen_by else ""
    return cache / "models" / scheme / name / (safe_revision(revision) + chosen)


def commit_of(folder: Path) -> str:
    """The revision (`safe_revision`) that a folder has, whether it has chosen files or all that were asked for."""
    return folder.name.partition(CHOSEN)[0]


def take_from_others(target: Path, partial: Path, entries: Iterable[FileEntry]) -> None:
    """Give files that another folder of the same revision has a second name; what can't be linked is left out."""
    commit = commit_of(target)
    folders = (target.with_name(commit), *target.parent.glob(f"{commit}{CHOSEN}*"))
    others = [folder for folder in folders if folder != target]
    for entry in entries:
        for place in (folder / entry.path for folder in others):
            with contextlib.suppress(OSError):  # not there, on a file system without links, another user's
                if place.stat().st_size == entry.size:
                    (partial / entry.path).parent.mkdir(parents=True, exist_ok=True)
                    (partial / entry.path).hardlink_to(place)
                    break


def partial_folder(target: Path) -> Path:
    """Where a download is assembled; same disk, so that publishing is a rename."""
    return target.with_name(f".{target.name}{PARTIAL_SUFFIX}")


def lock_path(target: Path) -> Path:
    """The file whose lock the one downloader of a revision holds; its text says who."""
    return target.with_name(f".{target.name}{LOCK_SUFFIX}")


@contextlib.contextmanager
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
