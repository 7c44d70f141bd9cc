"""Batch work at vLLM: behind live requests by its priority, and never so much of it that these find no place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from llmservice_runtime.contract.bounds import batch_places
from llmservice_runtime.protocol.engine import QueueFullError

PRIORITY = 1
"""What is lower goes before; live requests have 0."""
RETRY_SECONDS = 5


class Behind:
    """Looks after one engine's batch work. `scheduler` is vLLM's own configuration, which is asked at every request;
    `most` answers of it run and wait together."""

    def __init__(self, scheduler: Any, most: int) -> None:
        self._scheduler = scheduler
        self._most = most
        self._open = 0
        """Answers that run or wait."""
        self._places = batch_places(int(scheduler.max_num_seqs))
        self._free = asyncio.Semaphore(self._places)
        self._next = asyncio.Lock()
        """Held by the request that gathers its places: two would wait for each other's."""
        self.fields: Mapping[str, int] = {"priority": PRIORITY} if scheduler.policy == "priority" else {}
        """What vLLM is to read in the body; nothing where engine.args say that it goes first come, first served."""

    @asynccontextmanager
    async def turn(self, answers: int) -> AsyncIterator[None]:
        """Around a request of so many answers: vLLM runs what it runs to its end, so some places are left free of
        batch work; one with more answers than the others are waits for all of these. It takes no room in the queue of
        live requests, and finds as much in one of its own: QueueFullError."""
        if self._open + answers > self._most:
            message = f"{self._open} answers of batch work run or wait here, the most is {self._most}."
            raise QueueFullError(message, RETRY_SECONDS)
        self._open += answers
        try:
            async with AsyncExitStack() as held:
                async with self._next:
                    for _ in range(min(answers, self._places)):
                        await held.enter_async_context(self._free)
                self._more(answers)
                try:
                    yield
                finally:
                    self._more(-answers)
        finally:
            self._open -= answers

    def _more(self, answers: int) -> None:
        if self._scheduler.max_num_queued_reqs is not None:
            self._scheduler.max_num_queued_reqs += answers
