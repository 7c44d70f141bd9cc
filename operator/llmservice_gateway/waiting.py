"""How long an answer is waited for: as long as its replica answers something, and never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

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
        """What it gives or raises; TimeoutError = the replica is silent, AnswerTimeoutError = it takes too long."""
        loop = asyncio.get_running_loop()
        step = self.silent_seconds / ASKED_PER_BOUND
        began = heard = loop.time()
        most = self.answer_seconds()
        task = asyncio.ensure_future(what)
        try:
            while True:
                left = began + most - loop.time()
                await asyncio.wait({task}, timeout=max(0.0, min(step, left)))
                if task.done():
                    return task.result()
                most = max(most, self.answer_seconds())
                if loop.time() >= began + most:
                    raise AnswerTimeoutError(most)
                if await self._alive(task, step):
                    heard = loop.time()
                elif loop.time() - heard >= self.silent_seconds:
                    raise TimeoutError
        finally:
            if not task.done():  # nearly always it is, and to gather it would cost another turn of the loop
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            elif not task.cancelled():
                task.exception()  # nobody else may ask for it: whoever waited may have left in the same moment

    async def _alive(self, task: asyncio.Future[T], seconds: float) -> bool:
        """Whether the replica answers; at once when what is waited for comes meanwhile."""
        asked = asyncio.ensure_future(self.alive(seconds))
        try:
            both: set[asyncio.Future[Any]] = {task, asked}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return not asked.done() or asked.result()
        finally:
            asked.cancel()
