"""What models a cache keeps: which, how large, when each was last used; and how they go without harm.

What somebody uses is never taken: a runtime holds the mark of its model (`contract.in_use`), a downloader its lock. A
model vanishes at once by a rename, so that no reader sees half of it; what a crash left of that goes with the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmservice_runtime.contract.in_use import mark_of
from llmservice_runtime.sources.cache import (
    PARTIAL_SUFFIX,
    TRASH_SUFFIX,
    commit_of,
    lock_path,
    partial_folder,
    try_lock,
)

WANTED = ".wanted."
"""Before the service's `namespace.name`, in the name of a mark that it has a model."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One revision of a model. `size` in bytes, `used` in seconds since the epoch.

    `whole` is False for what is left of a download (or is being downloaded now): it is continued by the next.
    """

    folder: Path
    uri: str
    size: int
    used: float
    whole: bool

    @property
    def revision(self) -> str:
        """As a folder name: a commit or a digest, and what chose files of it."""
        return self.folder.name

    @property
    def commit(self) -> str:
        """The same, whichever files of it these are."""
        return commit_of(self.folder)

    @property
    def name(self) -> str:
        """`uri@revision`, as `llmservice models` shows and takes it."""
        return f"{self.uri}@{self.revision}"


def kept_models(cache: Path) -> list[Kept]:
    """Every revision that has a folder or part of a download, the one used least recently first."""
    return sorted((_kept(target) for target in _revisions(cache)), key=lambda kept: kept.used)


def is_in_use(kept: Kept) -> bool:
    """Whether a runtime or a downloader has it at this moment, as far as we may ask."""
    try:
        with _alone(kept.folder) as mine:
            return not mine
    except OSError:  # mounted read-only, or another user's
        return False


def remove(kept: Kept, files: Sequence[str] = ()) -> int | None:
    """Delete it, or these of its files; the bytes that were freed, None when somebody uses it. Raises OSError when it
    can't be deleted."""
    with _alone(kept.folder) as mine:
        if not mine:
            return None
        if files:
            return sum(_unlink(kept.folder / file) for file in files)
        freed = sum(_remove(folder) for folder in (kept.folder, partial_folder(kept.folder)))
        mark_of(kept.folder).unlink(missing_ok=True)
    return freed


def prune(models: Sequence[Kept], before: float, spare: Callable[[Kept], bool]) -> Iterator[tuple[Kept, int]]:
    """Remove what was last used `before` that time, the longest unused first; each that went, and its bytes.

    What somebody uses, and what is to be spared, stays.
    """
    for kept in models:
        if kept.used < before and not spare(kept) and (freed := remove(kept)) is not None:
            yield kept, freed


def want(folder: Path, service: str) -> None:
    """The service has this model from now on, and no other of the same cache: no other service's pruning takes it.

    For caches that replicas only read, so that nobody holds the model, or would bring it again, while there is none.
    """
    cache = folder.parents[3]
    _wanted(folder, service).touch()
    for other in (cache / "models").glob(f"*/*/.*{WANTED}{_word(service)}"):
        if other != _wanted(folder, service):
            other.unlink(missing_ok=True)


def wanted_by(kept: Kept) -> list[str]:
    """Services that have the model (`want`)."""
    prefix = _wanted(kept.folder, "").name
    found = (file.name for file in kept.folder.parent.iterdir() if file.name.startswith(prefix))
    return sorted(name.removeprefix(prefix).replace(".", "/", 1) for name in found)


def forget(cache: Path, namespace: str, services: Collection[str], before: float) -> None:
    """Marks of services of the namespace go that are not among these (names), and were made `before` that time."""
    prefix = f"{WANTED}{namespace}."
    for mark in (cache / "models").glob(f"*/*/.*{prefix}*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if mark.name.rpartition(prefix)[2] not in services and mark.stat().st_mtime < before:
                mark.unlink()


def _wanted(folder: Path, service: str) -> Path:
    return folder.with_name(f".{folder.name}{WANTED}{_word(service)}")


def _word(service: str) -> str:
    return service.replace("/", ".")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Keep everybody else from using or downloading it; False when somebody does already."""
    with try_lock(lock_path(folder)) as mine:
        if not mine:
            yield False
            return
        descriptor = os.open(mark_of(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)


def _kept(target: Path) -> Kept:
    places = [folder for folder in (target, partial_folder(target), _trash(target)) if folder.exists()]
    files = [found for folder in places for found in _stats(folder)]
    uri, used = f"{target.parent.parent.name}://{target.parent.name.replace('--', '/', 1)}", 0.0
    with contextlib.suppress(OSError):
        uri, used = mark_of(target).read_text(errors="replace") or uri, mark_of(target).stat().st_mtime
    used = used or max((found.st_mtime for found in files), default=0.0)  # brought by an earlier release
    return Kept(target, uri, sum(found.st_size for found in files), used, target.exists())


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Of the files in it. What goes meanwhile, folders too, is passed over: somebody else may be pruning."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = Path(parent, name).stat()
                if stat.S_ISREG(found.st_mode):
                    yield found


def _revisions(cache: Path) -> Iterator[Path]:
    """Every revision that has a folder, part of a download, or a rest of its removal."""
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


def _trash(folder: Path) -> Path:
    return folder.with_name(f".{folder.name.lstrip('.')}{TRASH_SUFFIX}")


def _unlink(path: Path) -> int:
    """Bytes that are free now: none where the file has another name."""
    found = path.stat()
    path.unlink()
    return found.st_size if found.st_nlink == 1 else 0


def _remove(folder: Path) -> int:
    trash = _trash(folder)
    if folder.exists():
        shutil.rmtree(trash, ignore_errors=True)
        folder.rename(trash)
    size = sum(found.st_size for found in _stats(trash) if found.st_nlink == 1)  # the rest has another name
    shutil.rmtree(trash, ignore_errors=True)
    return size
