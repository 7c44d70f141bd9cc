"""One instance per state folder: whoever holds the lock is it. The kernel frees the lock when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from llmservice_cli.local.disk import written

CONTROL_SOCKET = "control.sock"
JOIN_SECONDS = 15.0
"""How long another instance may take to start or to end before we say so."""
_PATH_LIMIT = 100
"""Bytes of a unix socket's address that every kernel takes."""


class InstanceLock:
    """Held until `release` or the end of the process; children do not inherit it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """A process that is given this descriptor holds the lock too."""

    @staticmethod
    def acquire(state: Path) -> InstanceLock | None:
        """The lock, or None when another process has it. Creates the folder, for this user alone.

        UserError when the folder can't be written.
        """
        with written(state):
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(state / "instance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return InstanceLock(fd)

    @staticmethod
    def held(state: Path) -> bool:
        """Whether a process has it now. Makes nothing."""
        try:
            fd = os.open(state / "instance.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def release(self) -> None:
        """Give up our hold of it."""
        os.close(self.fd)


@contextlib.contextmanager
def socket_address(state: Path) -> Iterator[str]:
    """The control socket's address, short enough for the kernel however deep the folder is."""
    path = state / CONTROL_SOCKET
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        yield str(path)
        return
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{CONTROL_SOCKET}"
    finally:
        os.close(folder)
