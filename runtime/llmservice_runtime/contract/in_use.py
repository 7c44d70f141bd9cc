"""A mark beside each model of a cache: who uses the model holds it, and its time tells when that was last so.

The mark of `<revision>/` is the file `.<revision>.use`; its text is the URI. It is held by a shared lock, which the
kernel frees when its holder dies, and which works where the cache is mounted read-only, as replicas have it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".use"


def mark_of(folder: Path) -> Path:
    """The mark of a model's folder."""
    return folder.with_name(f".{folder.name}{SUFFIX}")


def mark(folder: Path, uri: str) -> None:
    """The model of this URI is used now. A cache that can't be written stays unmarked: it can't be pruned either."""
    with contextlib.suppress(OSError):
        mark_of(folder).write_text(uri)


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the mark of the model that `path` (its folder, or a file in it) belongs to.

    False where it has none (it is no model of a cache), or where it is being removed at this moment.
    """
    with contextlib.ExitStack() as stack:
        descriptor = _open(path)
        if descriptor is not None:
            stack.callback(os.close, descriptor)
        try:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            descriptor = None
        _used_now(descriptor)
        try:
            yield descriptor is not None
        finally:
            _used_now(descriptor)


def _open(path: Path) -> int | None:
    for folder in filter(lambda folder: folder.name, (path, *path.parents)):
        with contextlib.suppress(OSError):
            return os.open(mark_of(folder), os.O_RDONLY | os.O_CLOEXEC)
    return None


def _used_now(descriptor: int | None) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):  # mounted read-only, or another user's
            os.utime(descriptor)
