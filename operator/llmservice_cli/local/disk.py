"""What is said when the state folder can't be written: a full disk, or another reason."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room on the disk, in the quota, or in the file (`ulimit -f`)."""


def unwritable(folder: Path, error: OSError) -> UserError:
    """DiskFull or VolumeFailed, with what the disk says."""
    elsewhere = "choose another state folder with LLMSERVICE_STATE_DIR"
    if error.errno in FULL:
        return UserError(
            f"{folder} can't be written: {_why(folder, error)}.",
            f"Free space there, or {elsewhere}.",
            FailureClass.DISK_FULL,
        )
    where = error.filename if isinstance(error.filename, str) else str(folder)
    return UserError(
        f"{folder} can't be used: {where}: {(error.strerror or str(error)).lower()}.",
        f"Make it a folder that this user may write, or {elsewhere}.",
        FailureClass.VOLUME_FAILED,
    )


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """Around what writes to the state folder: its OSErrors become UserErrors."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from None


def problem(folder: Path) -> UserError | None:
    """Tries to write there; why it can't be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(4096))
            trial.flush()
    except OSError as error:
        return unwritable(folder, error)
    return None


def _why(folder: Path, error: OSError) -> str:
    """A disk without inodes has room, and says that it has none."""
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    if error.errno == errno.ENOSPC and disk.f_files and not disk.f_favail:
        return "no more files (inodes) can be made on its disk"
    return (error.strerror or str(error)).lower()
