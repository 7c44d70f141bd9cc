"""Bring files of a model onto this machine: one downloader at a time, resumed, checked, published at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.in_use import mark
from llmservice_runtime.sources.cache import lock_path, model_folder, partial_folder, take_from_others, try_lock
from llmservice_runtime.sources.errors import DISK_FULL_ERRNOS, FIELD, SourceError, disk_full
from llmservice_runtime.sources.files import FileEntry, Source
from llmservice_runtime.sources.progress import Progress
from llmservice_runtime.sources.remote import size_of
from llmservice_runtime.sources.room import Room

FILES_AT_ONCE = 4
RESERVE_BYTES = 64 << 20
"""Left free on the disk beyond the files."""
LOCK_POLL_SECONDS = 0.25
PART_SUFFIX = ".part"


def fetch(
    files: Source,
    paths: Sequence[str],
    cache: Path,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
    room: Room | None = None,
    chosen_by: Collection[str] = (),
) -> Path:
    """The folder under which every one of `paths` stands complete; downloads what is missing.

    `chosen_by` are the patterns that chose them, where no other files of the revision may stand beside them.
    file:// is used in place. On a full disk `room` makes room; None = nothing is removed. SourceError when a file is
    damaged at the source, the hub is away, or the disk is full.
    """
    if files.folder is not None:
        return files.folder
    by_path = {entry.path: entry for entry in files.entries()}
    if unknown := [path for path in paths if path not in by_path]:
        raise SourceError(f"{FIELD}: {files.uri} has no file {unknown[0]}.", failure=FailureClass.MODEL_NOT_FOUND)
    wanted = [by_path[path] for path in dict.fromkeys(paths)]
    target = model_folder(cache, files, chosen_by)
    label = files.uri
    waited = 0.0
    try:
        while _missing(target, wanted):
            with try_lock(lock_path(target)) as mine:
                if mine:
                    missing = _missing(target, wanted)
                    if missing:
                        _download(files, missing, target, label, progress, room)
                    break
            progress.waiting(label, _holder(target), waited, *_there(target, wanted))
            sleep(LOCK_POLL_SECONDS)
            waited += LOCK_POLL_SECONDS
    except OSError as error:
        raise _disk_error(error, target, wanted) from error
    if waited:
        progress.finish(True)
    mark(target, files.uri)
    return target


def lacking(files: Source, paths: Sequence[str], cache: Path, chosen_by: Collection[str] = ()) -> tuple[int, int]:
    """Bytes of these files that are on this machine, and bytes that `fetch` has to bring in all."""
    by_path = {entry.path: entry for entry in files.entries()}
    return _there(model_folder(cache, files, chosen_by), [by_path[path] for path in dict.fromkeys(paths)])


def _missing(target: Path, wanted: Sequence[FileEntry]) -> list[FileEntry]:
    """What is not published yet, or was cut afterwards."""
    return [e for e in wanted if not (target / e.path).is_file() or size_of(target / e.path) != e.size]


def _there(target: Path, wanted: Sequence[FileEntry]) -> tuple[int, int]:
    """Bytes that are here already, by whomever, and bytes in all."""
    partial = partial_folder(target)
    here = (max(size_of(target / entry.path), _held(partial, entry)) for entry in wanted)
    return sum(here), sum(entry.size for entry in wanted)


def _holder(target: Path) -> str:
    try:
        return lock_path(target).read_text() or "another process"
    except OSError:
        return "another process"


def _download(
    files: Source, missing: list[FileEntry], target: Path, label: str, progress: Progress, room: Room | None
) -> None:
    """Assemble beside the target, then publish: a rename of the whole folder when it is new, else of each file."""
    partial = partial_folder(target)
    take_from_others(target, partial, [entry for entry in missing if not (partial / entry.path).exists()])
    _check_space(target, partial, missing, room)
    progress.start(label, sum(entry.size for entry in missing))
    complete = False
    try:
        _download_all(files, missing, partial, progress)
        complete = True
    finally:
        progress.finish(complete)
    if not target.exists():
        _only(partial, missing)
        partial.rename(target)
        return
    for entry in missing:
        (target / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (partial / entry.path).replace(target / entry.path)
    shutil.rmtree(partial)


def _download_all(files: Source, missing: list[FileEntry], partial: Path, progress: Progress) -> None:
    """Several files at a time; the first failure (or Ctrl-C) stops the others at their next bytes."""
    stop = threading.Event()
    lock = threading.Lock()

    def advance(count: int) -> None:
        if stop.is_set():
            raise _Stopped
        with lock:
            progress.advance(count)

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        futures = [pool.submit(_one, files, entry, partial, advance) for entry in missing]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    failures = [error for future in done if (error := future.exception()) and not isinstance(error, _Stopped)]
    if failures:
        raise failures[0]


def _one(files: Source, entry: FileEntry, partial: Path, advance: Callable[[int], None]) -> None:
    """One file into the partial folder under its own name, which it gets only when it is whole and right."""
    whole = partial / entry.path
    if whole.is_file() and size_of(whole) == entry.size:
        advance(entry.size)
        return
    whole.parent.mkdir(parents=True, exist_ok=True)
    part = whole.with_name(whole.name + PART_SUFFIX)
    files.download(entry.path, part, advance)
    problem = _problem(part, entry)
    if problem:
        part.unlink()
        raise SourceError(
            f"{FIELD}: {files.uri}: {entry.path} is damaged: {problem}.",
            "It was deleted; try again. If it happens twice, the copy at the source is damaged or a proxy changes it.",
            FailureClass.MODEL_DAMAGED,
        )
    part.rename(whole)


def _problem(part: Path, entry: FileEntry) -> str:
    if (size := size_of(part)) != entry.size:
        return f"it has {size} bytes instead of {entry.size}"
    if entry.sha256:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry.sha256.lower():
            return f"its SHA-256 is {digest[:12]}... instead of {entry.sha256[:12]}..."
    return ""


def _only(partial: Path, missing: list[FileEntry]) -> None:
    """Drop what an earlier, abandoned download of other files left."""
    wanted = {partial / entry.path for entry in missing}
    for file in list(partial.rglob("*")):
        if file.is_file() and file not in wanted:
            file.unlink()


def _held(partial: Path, entry: FileEntry) -> int:
    whole = partial / entry.path
    return max(size_of(whole), size_of(whole.with_name(whole.name + PART_SUFFIX)))


def _check_space(target: Path, partial: Path, missing: list[FileEntry], room: Room | None) -> None:
    needed = sum(max(0, entry.size - _held(partial, entry)) for entry in missing)
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if needed + RESERVE_BYTES > free and room is not None:
        room.make(target, needed + RESERVE_BYTES)
        free = shutil.disk_usage(target.parent).free
    if needed + RESERVE_BYTES > free:
        raise disk_full(target.parent, needed + RESERVE_BYTES, free, room.stays(target) if room is not None else "")


def _disk_error(error: OSError, target: Path, wanted: Sequence[FileEntry]) -> SourceError:
    if error.errno in DISK_FULL_ERRNOS:
        partial = partial_folder(target)
        needed = sum(max(0, e.size - _held(partial, e)) for e in _missing(target, wanted))
        return disk_full(target.parent, needed, shutil.disk_usage(target.parent).free)
    user = os.geteuid()
    return SourceError(
        f"The model cache can't be written by user {user}: {error.strerror or error}: {error.filename or target}.",
        f"Give the folder to that user (chown -R {user}), or choose another one (LLMSERVICE_CACHE_DIR; in a cluster "
        "spec.cache).",
        FailureClass.VOLUME_FAILED,
    )


class _Stopped(BaseException):
    """Another file failed. Not an Exception: nothing may take it for a network trouble and retry."""
