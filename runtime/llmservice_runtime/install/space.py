"""How much an installation fetches and takes, and whether the disk has room for it. Sizes stand beside the locks.

`X.sizes.json` is written by `make lock`: machine and Python -> bytes of the wheels, and bytes that are in them;
`source` -> bytes of what has no wheel.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass


@dataclass(frozen=True, slots=True)
class Size:
    """In bytes: wheels as they are fetched, and what is in them."""

    fetched: int
    unpacked: int

    def __add__(self, other: Size) -> Size:
        return Size(self.fetched + other.fetched, self.unpacked + other.unpacked)


NOTHING = Size(0, 0)


def target() -> str:
    """This machine and Python as the sizes name them: x86_64-3.11."""
    return f"{platform.machine()}-{sys.version_info.major}.{sys.version_info.minor}"


def sizes_file(lock: Path) -> Path:
    """Where a lock's sizes stand."""
    return lock.with_suffix(".sizes.json")


def size_of(lock: Path) -> Size:
    """Of all that a lock installs here; NOTHING where it is not known."""
    return Size(*_known(lock).get(target(), (0, 0)))


def source_of(lock: Path) -> int:
    """Bytes of what a lock names and no index has built."""
    return int(_known(lock).get("source", 0))


def _known(lock: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(sizes_file(lock).read_text()))
    except (OSError, ValueError):
        return {}


def gigabytes(size: int) -> str:
    """`3.1 GB`, or `240 MB` below one."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def require_space(needed: Iterable[tuple[Path, int]]) -> None:
    """DiskFull when a disk lacks room for what its folders need (bytes); folders of one disk count together."""
    disks: dict[int, list[tuple[Path, int]]] = {}
    for folder, size in needed:
        disks.setdefault(_existing(folder).stat().st_dev, []).append((folder, size))
    for parts in disks.values():
        folder, size = parts[0][0], sum(size for _, size in parts)
        disk = os.statvfs(_existing(folder))
        free = disk.f_bavail * disk.f_frsize
        if free < size:
            raise UserError(
                f"The disk is full: {folder} needs {gigabytes(size)} and has {gigabytes(free)} free.",
                "Free space there, or install on another disk: LLMSERVICE_ENGINES_DIR names the engines' folder, "
                "UV_CACHE_DIR that of fetched packages.",
                FailureClass.DISK_FULL,
            )


def one_disk(one: Path, other: Path) -> bool:
    """Whether two folders, made or not, are on one file system: then files can be links."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
