"""How fast this machine's CPUs read memory: measured, as no table tells what a machine's modules and neighbours leave.

The C library's search for a byte reads as fast as CPUs do, and lets other threads run meanwhile.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MIB = 1 << 20
LEAST, MOST = 64 * MIB, 1024 * MIB
"""Bytes that are read..."""
CACHES = 3
"""...at least so many times what caches hold."""
SECONDS, PASSES = 0.04, 4
"""How long it is read, and how often at least: the fastest counts, as others disturb the rest."""
MOST_THREADS = 64
_FILL = 0x55
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cache_bytes(root: Path = Path("/")) -> int:
    """Of the largest caches of all CPUs together; 0 = the kernel doesn't tell."""
    found: dict[str, int] = {}
    for folder in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        size = re.fullmatch(r"(\d+)([KMG])", _text(folder / "size"))
        if size and _text(folder / "level").isdigit() and _text(folder / "type") != "Instruction":
            shared = f"{_text(folder / 'level')}:{_text(folder / 'shared_cpu_list')}"
            found[shared] = int(size[1]) * _UNITS[size[2]]
    last = max((key.partition(":")[0] for key in found), default="")
    return sum(size for key, size in found.items() if key.startswith(f"{last}:"))


def too_large(caches: int) -> bool:
    """Whether caches hold so much that what is read of memory can't be told from what is read of them."""
    return CACHES * caches > MOST


def measured(threads: int, caches: int, free: int) -> int:
    """Bytes a second that so many threads read together, within a tenth of a second or two; 0 = caches are so large, or
    so little memory is `free`, that it can't be told, or there is no room for the threads."""
    size = max(LEAST, CACHES * caches)
    if too_large(caches) or size > free // 4:
        return 0
    threads = max(1, min(threads, MOST_THREADS))
    with contextlib.suppress(MemoryError, OSError, RuntimeError):  # of a limit, or of others that came meanwhile
        return int(size // threads * threads / _fastest(threads, size // threads))
    return 0


def _fastest(threads: int, each: int) -> float:
    """Seconds in which so many threads read so many bytes each."""
    import ctypes  # a machine that was measured plans without it
    import mmap

    search = ctypes.CDLL(None).memchr
    search.argtypes, search.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    room = mmap.mmap(-1, each * threads, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    places = [(ctypes.c_char * each).from_buffer(room, each * number) for number in range(threads)]
    # Pages that nobody wrote are one and the same; those that many write lie with all memory controllers.
    _together(lambda place: ctypes.memset(place, _FILL, each), places)
    fastest, began, passes = float("inf"), time.perf_counter(), 0
    while passes < PASSES or time.perf_counter() - began < SECONDS:
        before = time.perf_counter()
        _together(lambda place: search(place, 0, each), places)
        fastest, passes = min(fastest, time.perf_counter() - before), passes + 1
    return fastest


def _together(work: Callable[[Any], object], places: Sequence[object]) -> None:
    """In a thread for each. Where one can't be started the others end before it is said."""
    threads: list[threading.Thread] = []
    try:
        for place in places:
            thread = threading.Thread(target=work, args=(place,))
            thread.start()
            threads.append(thread)
    finally:
        for thread in threads:
            thread.join()


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
