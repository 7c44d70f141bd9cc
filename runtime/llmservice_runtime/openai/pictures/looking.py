"""How many pictures are looked at together: until one is computed, its file and its pixels are here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmservice_runtime.wire.errors import queue_full

TOGETHER = 32
"""Pictures, some 10 MiB each as encoders take them. More would not be computed sooner: one is, at a time."""
RETRY_SECONDS = 5


class Looking:
    """The requests that look at their pictures, and those that wait for it, first come, first served. For one loop."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._left = asyncio.Event()
        self._requests = 0
        self._pictures = 0

    @asynccontextmanager
    async def at(self, pictures: int, most: int) -> AsyncIterator[None]:
        """Around what is done with so many pictures of one request. ApiError 429 where `most` requests are here."""
        if not pictures:
            yield
            return
        if self._requests >= most:
            raise queue_full(f"{self._requests} requests look at their pictures already.", RETRY_SECONDS)
        self._requests += 1
        try:
            async with self._door:
                while self._pictures and self._pictures + pictures > TOGETHER:
                    self._left.clear()
                    await self._left.wait()
                self._pictures += pictures
            try:
                yield
            finally:
                self._pictures -= pictures
                self._left.set()
        finally:
            self._requests -= 1
