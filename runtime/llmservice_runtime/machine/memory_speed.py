"""How fast this machine's CPUs read memory: measured, as no table tells what a machine's modules and neighbours leave.

The C library's search for a byte reads as fast as CPUs do, and lets other threads run meanwhile.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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


def measured(threads: int, caches: int, free: int) -> int:
    """Bytes a second that so many threads read together, within a tenth of a second or two; 0 = caches are so large, or
    so little memory is `free`, that it can't be told."""
    size = max(LEAST, CACHES * caches)
    if size > MOST or size > free // 4:
        return 0
    threads = max(1, min(threads, MOST_THREADS))
    each = size // threads
    import ctypes  # a machine that was measured plans without it

    search = ctypes.CDLL(None).memchr
    search.argtypes, search.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    room = ctypes.create_string_buffer(each * threads)
    places = [ctypes.addressof(room) + each * number for number in range(threads)]
    _together(lambda place: ctypes.memset(place, _FILL, each), places)  # pages that nobody wrote are one and the same
    fastest, began, passes = float("inf"), time.perf_counter(), 0
    while passes < PASSES or time.perf_counter() - began < SECONDS:
        before = time.perf_counter()
        _together(lambda place: search(place, 0, each), places)
        fastest, passes = min(fastest, time.perf_counter() - before), passes + 1
    return int(each * threads / fastest)


def _together(work: Callable[[int], object], places: Sequence[int]) -> None:
    threads = [threading.Thread(target=work, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
