"""A client that takes nothing of what it is sent is let go: it has memory here, and what others wait for elsewhere."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios

LOOKS = 4
"""In each bound."""


class Untaken:
    """Ends a connection whose other end takes nothing for `seconds`, and at most a quarter more; until it is `stop`ped.

    To take a little within each bound is enough.
    """

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._between = seconds / LOOKS
        self._size = untaken_of(transport)
        self._silent = 0
        self._again()

    def stop(self) -> None:
        """It takes enough, or it is gone."""
        self._timer.cancel()

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._between, self._look)

    def _look(self) -> None:
        size = untaken_of(self._transport)
        self._silent = 0 if size < self._size else self._silent + 1
        self._size = size
        if self._silent >= LOOKS:
            self._transport.abort()
        else:
            self._again()


def untaken_of(transport: asyncio.Transport) -> int:
    """Bytes that its other end has not taken: those here, and those that the kernel has, which may be some MB."""
    waiting = transport.get_write_buffer_size()
    try:
        (sent,) = struct.unpack(
            "i", fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        )
    except (AttributeError, OSError):
        return waiting
    return waiting + int(sent)
