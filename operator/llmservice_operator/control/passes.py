"""Passes over services: each when it is due, several at a time, and what fails waits longer and longer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

from prometheus_client import Histogram

from llmservice_kube.cache import Cache, Key
from llmservice_kube.errors import ApiError, LeadershipLost
from llmservice_kube.kinds import LLM_SERVICE
from llmservice_operator.control.queue import KeyedQueue
from llmservice_operator.control.term import cancelled

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the histogram of passes: one that writes nothing takes milliseconds, one that waits for the server long."""
WORKERS = 32
"""Passes at a time."""
SOON_SECONDS = 1.0
"""Until a namespace that was not listed is looked at again."""

logger = logging.getLogger(__name__)


class StillRefused(Exception):
    """Writes were refused that may succeed later; status says so, and they are tried again."""

    def __init__(self, within: float | None = None) -> None:
        super().__init__()
        self.within = within
        """Seconds after which they are tried again, however often they were refused; None = after a longer backoff."""


class Passes:
    """The queue of keys and those who work on it.

    `over` is a pass over one key: it returns the seconds until the next one that no event would bring, or None.
    `tell_bug` tells of one that failed by a bug. Nothing begins before `informed`.
    """

    def __init__(
        self,
        over: Callable[[Key], Awaitable[float | None]],
        tell_bug: Callable[[Key, Exception], Awaitable[None]],
        informed: Callable[[], bool],
        cache: Cache,
        clock: Callable[[], float],
        resync: float,
    ) -> None:
        self.queue: KeyedQueue[Key] = KeyedQueue()
        self.results: Counter[str] = Counter()
        """How many ended how."""
        self.seconds = Histogram(
            "llmservice_operator_reconcile_seconds", "Time that a pass took.", registry=None, buckets=SECONDS
        )
        self._over = over
        self._tell_bug = tell_bug
        self._informed = informed
        self._cache = cache
        self._clock = clock
        self._resync_seconds = resync
        self._bell = asyncio.Event()

    def wake(self, keys: Collection[Key], delay: float = 0.0) -> None:
        """Have these looked at after `delay` seconds at the latest; a negative one puts them before others."""
        at = self._clock() + delay
        for key in keys:
            if key[1]:
                self.queue.wake(key, at)
        self._bell.set()

    def look(self) -> None:
        """What is known has changed: see whether anything can begin now."""
        self._bell.set()

    async def run(self) -> None:
        """Passes over what is due, WORKERS at a time, until cancelled. Raises LeadershipLost."""
        self.queue.abandoned(self._clock())
        room = asyncio.Semaphore(WORKERS)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await room.acquire()
                tasks.create_task(self.one(await self._next())).add_done_callback(lambda _: room.release())

    async def _next(self) -> Key:
        """Wait for a key that is due."""
        while True:
            due = None
            self._bell.clear()
            if self._informed():
                if (key := self.queue.take(self._clock())) is not None:
                    if self._cache.knows(key[0]):
                        return key
                    self.queue.done(key)
                    self.queue.wake(key, self._clock() + SOON_SECONDS)
                    continue
                due = self.queue.next_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                    await self._bell.wait()

    async def one(self, key: Key) -> None:
        """One pass, its bookkeeping, and the rule that no service's failure is another's."""
        began = self._clock()
        name = "/".join(key)
        try:
            again = await self._over(key)
        except LeadershipLost:
            raise
        except StillRefused as refused:
            self.results["refused"] += 1
            self.queue.failed(key, self._clock())
            if refused.within is not None:
                self.queue.wake(key, self._clock() + refused.within)
        except (Exception, asyncio.CancelledError) as found:
            if isinstance(found, asyncio.CancelledError) and cancelled():
                raise
            error = found if isinstance(found, Exception) else RuntimeError("something in the pass was cancelled")
            if isinstance(error, ApiError) and not error.final:
                self.results["error"] += 1
                wait = self.queue.failed(key, self._clock(), error.retry_after or 0.0)
                logger.warning("%s: %s; again in %.0f s", name, error, wait)
            else:
                self.results["bug"] += 1
                await self._tell_bug(key, error)
                wait = self.queue.failed(key, self._clock())
                logger.exception("%s: a pass failed by a bug; again in %.0f s", name, wait)
        else:
            self.results["done"] += 1
            self.queue.done(key)
            if self._cache.version(LLM_SERVICE, *key) is not None:
                resync = self._resync()
                self.queue.wake(key, self._clock() + (resync if again is None else min(again, resync)))
        self.seconds.observe(self._clock() - began)
        self._bell.set()

    def _resync(self) -> float:
        """Seconds, spread so that services do not all come at once."""
        return self._resync_seconds * random.uniform(0.8, 1.2)
