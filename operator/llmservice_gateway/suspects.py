"""Requests that were there when a replica died: which one to try again, and which one no more. `now` is monotonic.

One of those that a replica had may have ended it. Each is tried again once, one after the other, so that a replica
that dies next had one of them alone; whoever was there both times is refused for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

DEATHS = 2
"""Replicas that a request may take part in ending."""
SECONDS = 600.0
"""For so long it is remembered, so that what has changed meanwhile is given a chance."""
TURN_SECONDS = 5.0
"""What ends an engine does so when it is read, or in its first steps: after so long the next one has its turn."""
MOST = 10_000
"""Requests that are remembered; the oldest are forgotten."""


class Suspects:
    """Counts by service and digest; a request is kept as its digest alone."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def died(self, digest: bytes, now: float) -> None:
        """A replica died that had this request."""
        self._deaths[digest] = (self.deaths(digest, now) + 1, now)
        self._deaths.move_to_end(digest)
        while len(self._deaths) > MOST:
            self._deaths.popitem(last=False)

    def deaths(self, digest: bytes, now: float) -> int:
        """Replicas that died with this request in the last SECONDS."""
        deaths, since = self._deaths.get(digest, (0, now))
        return deaths if now - since < SECONDS else 0

    @property
    def none(self) -> bool:
        """Nothing died lately: no request needs a digest."""
        return not self._deaths

    def forget_old(self, now: float) -> None:
        """Drop what is over."""
        while self._deaths:
            digest, (_, since) = next(iter(self._deaths.items()))
            if now - since < SECONDS:
                return
            del self._deaths[digest]


def digest_of(service: str, path: str, body: bytes) -> bytes:
    """16 bytes for one request to one service."""
    digest = hashlib.blake2b(f"{service} {path} ".encode(), digest_size=16)
    digest.update(body)
    return digest.digest()


class Turns:
    """Suspects of one service go one after the other: each until it is answered, or for TURN_SECONDS."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def turn(self, service: str) -> AsyncIterator[None]:
        """Wait for one's turn, and have it."""
        lock = self._locks.setdefault(service, asyncio.Lock())
        await lock.acquire()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                lock.release()

        timer = asyncio.get_running_loop().call_later(TURN_SECONDS, release)
        try:
            yield
        finally:
            timer.cancel()
            release()
