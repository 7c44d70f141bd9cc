"""The sockets of a session: aiohttp leaves those of cancelled requests behind, and no loop may end before they have.

Such a connection still says goodbye over TLS, to a server that may be slow, stopped or gone. Nobody waits for that.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from contextlib import suppress
from typing import Any

AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""As getaddrinfo gives it."""
GOODBYE_SECONDS = 2.0
"""For the loop to notice that a connection has ended."""


class Sockets:
    """Pass `make` to a connector as its socket factory, and await `gone` when the session is closed."""

    def __init__(self) -> None:
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def make(self, address: AddrInfo) -> socket.socket:
        """As asyncio makes it, but known to us."""
        family, kind, protocol, *_ = address
        found = socket.socket(family, kind, protocol)
        found.setblocking(False)
        self._made.add(found)
        return found

    async def gone(self) -> None:
        """Both ways are shut, so each transport that is left sees the end of its stream and closes itself."""
        await asyncio.sleep(0)  # transports that were told to close do so in the loop's next turn
        for found in self._open():
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                while self._open():  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)

    def _open(self) -> list[socket.socket]:
        return [found for found in self._made if found.fileno() != -1]
