"""How long an answer is waited for: as long as its replica answers something, and never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

ASKED_PER_BOUND = 4
"""A replica that says nothing is asked so often before it counts as gone."""


class AnswerTimeoutError(Exception):
    """The replica lives, but its answer takes too long; so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds in seconds. `alive` asks the replica anything and takes at most the seconds it is given; `answer_seconds`
    is asked again and again, and the most that it said counts: a queue may only be heard of while one stands in it.

    An answer that is no stream has no sign of life before its end, and a queue may stand before it, so its age says
    nothing: a replica that is silent (frozen, or behind a network that resets nothing) is told from one that works by
    asking it.
    """

    silent_seconds: float
    answer_seconds: Callable[[], float]
    alive: Callable[[float], Awaitable[bool]]

    async def wait(self, what: Awaitable[T]) -> T:
        """What it gives or raises; TimeoutError = the replica is silent, AnswerTimeoutError = it takes too long.

        It is awaited here, and cancelled from outside once patience ends: nearly always it comes before that, and a
        task of its own would cost each request two turns of the loop.
        """
        watch = _Watch(self)
        try:
            return await what
        except asyncio.CancelledError:
            if watch.ended_it():
                assert watch.why is not None
                raise watch.why from None
            raise
        finally:
            watch.stop()


class _Watch:
    """Cancels the task that made it, once its patience ends; `why` then says for what reason."""

    def __init__(self, patience: Patience) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.why: Exception | None = None
        self._patience = patience
        self._waits = task
        self._cancelled_before = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._began = self._heard = self._loop.time()
        self._most = patience.answer_seconds()
        self._step = patience.silent_seconds / ASKED_PER_BOUND
        self._asking: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(min(self._step, self._most), self._ask)

    def stop(self) -> None:
        """What was waited for is there, or won't come."""
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def ended_it(self) -> bool:
        """Whether it was this that cancelled the task, and nobody else did."""
        return self.why is not None and self._waits.uncancel() <= self._cancelled_before

    def _ask(self) -> None:
        self._asking = self._loop.create_task(self._look())

    async def _look(self) -> None:
        try:
            await self._still()
        except Exception as why:
            self.why = why
            self._waits.cancel()
            return
        left = self._began + self._most - self._loop.time()
        self._timer = self._loop.call_later(max(0.0, min(self._step, left)), self._ask)

    async def _still(self) -> None:
        """Raises what patience ends with."""
        self._most = max(self._most, self._patience.answer_seconds())
        if self._loop.time() >= self._began + self._most:
            raise AnswerTimeoutError(self._most)
        if await self._patience.alive(self._step):
            self._heard = self._loop.time()
        elif self._loop.time() - self._heard >= self._patience.silent_seconds:
            raise TimeoutError
