"""What of a mapped model file nobody reads again: weights that were copied into another layout while loading."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

MADV_DONTNEED = 4
MAPS = Path("/proc/self/maps")


def let_go(model: Path) -> None:
    """Take the pages of a model's file out of this process; what is read comes back from the page cache.

    llama.cpp repacks quantized matrices for the CPU, and their originals stay mapped: a Q4_K_M of 644 MiB was held
    twice but for what is not repacked (1,290 instead of 930 MiB). Pages that are locked (--mlock) stay.
    """
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, size in _mappings(str(model.resolve().parent)):
        madvise(start, size, MADV_DONTNEED)


def _mappings(folder: str) -> Iterator[tuple[int, int]]:
    """(address, bytes) of files there: the model's, and other parts of one that is split."""
    for line in MAPS.read_text(errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].rpartition("/")[0] == folder and "w" not in fields[1]:
            start, end = (int(part, 16) for part in fields[0].split("-"))
            yield start, end - start
