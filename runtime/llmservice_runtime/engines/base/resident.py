"""How much of its own memory is in memory: mapped files are read, and caches taken, when they are first used."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

SMAPS = Path("/proc/self/smaps")


def mapped(folder: Path, smaps: Path = SMAPS) -> tuple[int, int]:
    """(bytes that this process has mapped of files in a folder, bytes of them that are in its memory)."""
    wanted, size, there, inside = str(folder.resolve()), 0, 0, False
    for line in smaps.read_text(errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if not fields[0].endswith(":"):
            inside = len(fields) == 6 and fields[5].rpartition("/")[0] == wanted
        elif inside and fields[0] in ("Size:", "Rss:"):
            size += int(fields[1]) * 1024 * (fields[0] == "Size:")
            there += int(fields[1]) * 1024 * (fields[0] == "Rss:")
    return size, there


def touched(address: int, size: int) -> int:
    """Bytes of memory of no file that were written so far; all of it where the kernel does not say."""
    first = address // mmap.PAGESIZE * mmap.PAGESIZE
    pages = -(-(address + size - first) // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(ctypes.c_void_p(first), ctypes.c_size_t(pages * mmap.PAGESIZE), found) != 0:
        return size
    return min(size, sum(page & 1 for page in found) * mmap.PAGESIZE)
