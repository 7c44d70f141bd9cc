"""Admission and the end of it: what runs when the process is told to stop may finish, for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from llmservice_runtime.wire.errors import ApiError, unavailable


class Drain:
    """Which requests run, and whether new ones may start."""

    def __init__(self) -> None:
        self.draining = False
        self.expired = False
        """The time to finish is over: a handler that is cancelled now tells its client so."""
        self.busy = asyncio.Event()
        """Set while requests run."""
        self.idle = asyncio.Event()
        """Set while none run."""
        self.idle.set()
        self._running: set[asyncio.Task[object]] = set()

    @property
    def running(self) -> int:
        """Requests admitted and not finished."""
        return len(self._running)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Around one request's handler; ApiError 503 once draining."""
        if self.draining:
            raise draining()
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.busy.set()
        self.idle.clear()
        try:
            yield
        finally:
            self._running.discard(task)
            if not self._running:
                self.busy.clear()
                self.idle.set()

    async def run(self, seconds: float, margin: float = 5.0) -> None:
        """Refuse new work, wait for the running requests, then end the rest; each gets `margin` s to say so."""
        self.draining = True
        try:
            await asyncio.wait_for(self.idle.wait(), seconds)
        except TimeoutError:
            self.expired = True
            for task in list(self._running):
                task.cancel()
            with _quietly():
                await asyncio.wait_for(self.idle.wait(), margin)


@contextmanager
def _quietly() -> Iterator[None]:
    """A client that does not read its last bytes does not hold the exit."""
    try:
        yield
    except TimeoutError:
        return


def draining() -> ApiError:
    """503 while draining: another replica, or this one's successor, can serve the same request."""
    return unavailable("This replica is shutting down and takes no new work; retry.", "draining", 5)
