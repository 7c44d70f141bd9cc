"""How much of pictures is here together: files and pixels until they are computed, then vectors until the answer is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmservice_runtime.contract.pictures import TOGETHER
from llmservice_runtime.wire.errors import queue_full

RETRY_SECONDS = 5


class Looking:
    """The requests that look at their pictures, and those that wait for it, first come, first served. For one loop."""

    def __init__(self, together: int = TOGETHER, behind: int = 1) -> None:
        """`together`: so many pictures of all requests, or any number of one of them. `behind`: batch work comes in
        where there are no more than so many with its own, or none, and no live request waits."""
        self._room = {False: together, True: behind}
        self._doors = {False: asyncio.Lock(), True: asyncio.Lock()}
        self._left = asyncio.Event()
        self._requests = {False: 0, True: 0}
        self._pictures = 0

    @asynccontextmanager
    async def at(self, pictures: int, most: int, *, batch: bool = False) -> AsyncIterator[None]:
        """Around what is done with so many pictures (or tokens or pixels of some) of one request. ApiError 429 where
        `most` requests are here, of live ones for a live one."""
        if not pictures:
            yield
            return
        before = sum(self._requests.values()) if batch else self._requests[False]
        if before >= most:
            raise queue_full(f"{before} requests look at their pictures already.", RETRY_SECONDS)
        self._requests[batch] += 1
        try:
            try:
                async with self._doors[batch]:
                    while self._waits(pictures, batch):
                        self._left.clear()
                        await self._left.wait()
                    self._pictures += pictures
            finally:
                self._left.set()  # batch work that let a live one go before looks again
            try:
                yield
            finally:
                self._pictures -= pictures
                self._left.set()
        finally:
            self._requests[batch] -= 1

    def _waits(self, pictures: int, batch: bool) -> bool:
        """Whether so many find no room now. Of all that wait for the last to leave, live ones come first."""
        if batch and self._doors[False].locked():
            return True
        return self._pictures > 0 and self._pictures + pictures > self._room[batch]
