"""The barest relay on uvloop: what a proxy in Python has left to do that reads, counts and keeps back nothing."""

from __future__ import annotations

import asyncio
from typing import Any


class Half(asyncio.Protocol):
    """One of two connections: what it gets is written to the other."""

    def __init__(self, other: asyncio.Transport | None = None) -> None:
        self._other = other
        self._early = b""

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other.close()

    def join(self, other: Any) -> None:
        """`other` gets what came so far, and what comes."""
        self._other = other
        other.write(self._early)


class ClientHalf(Half):
    """A client's: the engine gets a connection for it."""

    def __init__(self, engine: int) -> None:
        super().__init__()
        self._engine = engine

    def connection_made(self, transport: Any) -> None:
        self._task = asyncio.get_running_loop().create_task(self._reach(transport))

    async def _reach(self, client: Any) -> None:
        loop = asyncio.get_running_loop()
        engine, _ = await loop.create_connection(lambda: Half(client), "127.0.0.1", self._engine)
        self.join(engine)
