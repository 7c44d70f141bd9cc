"""The reader's end of a request: deltas cross from the step thread to the event loop once a step."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import ClassVar
from weakref import WeakKeyDictionary, finalize

from llmservice_runtime.protocol.engine import Delta

_ring = ctypes.PyDLL(None).eventfd_write
"""The C library's, called without letting go of the interpreter, as `os.eventfd_write` does."""


class Stream(AsyncIterator[Delta]):
    """Deltas of all answers of one request. What a slow reader has not taken is merged, one delta per answer at most.

    `on_end(k)` is told that k answers need no place any more; `on_cancel` that nobody reads; `start` runs before the
    first delta. Whoever has a stream reads it to its end or closes it.
    """

    def __init__(
        self,
        answers: int,
        on_end: Callable[[int], None],
        on_cancel: Callable[[Stream], None],
        start: Callable[[Stream], Awaitable[None]] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.mailbox = Mailbox.of(self.loop)
        self.arrived = time.monotonic()
        self.open = answers
        """Answers without a finish reason yet, as the reader's side knows."""
        self._start = start
        self._on_end = on_end
        self._on_cancel = on_cancel
        self._pending: dict[int, Delta] = {}
        self._awaited: asyncio.Future[None] | None = None
        """What the reader waits for while nothing is pending."""

    def push(self, delta: Delta) -> None:
        """On the event loop: a delta arrived."""
        if delta.finish_reason is not None:
            self.open -= 1
            self._on_end(1)
        waiting = self._pending.get(delta.index)
        if waiting is None:
            self._pending[delta.index] = delta
        else:
            _merge(waiting, delta)
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Delta:
        try:
            if self._start is not None:
                start, self._start = self._start, None
                await start(self)
            while not self._pending:
                if self.open <= 0:
                    raise StopAsyncIteration
                self._awaited = self.loop.create_future()
                await self._awaited
        except StopAsyncIteration:
            raise
        except BaseException:
            await self.aclose()
            raise
        return self._pending.pop(next(iter(self._pending)))

    async def aclose(self) -> None:
        """Cancel what still runs; the engine frees it with its next step."""
        if self.open > 0:
            self._on_end(self.open)
            self.open = 0
            self._on_cancel(self)


def _merge(old: Delta, new: Delta) -> None:
    old.text += new.text
    old.token_ids += new.token_ids
    if new.logprobs is not None:
        old.logprobs = [*(old.logprobs or []), *new.logprobs]
    old.finish_reason = new.finish_reason
    old.stop_reason = new.stop_reason
    old.error = new.error
    old.unfit = new.unfit


class Mailbox:
    """Where a thread leaves deltas for the streams of one event loop.

    `call_soon_threadsafe` lets go of the interpreter while it wakes the loop, and gets it back when the loop has done
    what it was woken for; so long the model would wait. This bell is rung without letting go: the loop has its turn
    while the next step computes.
    """

    _known: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox]] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._posts: deque[Iterable[tuple[Stream, Delta]]] = deque()
        self._bell = os.eventfd(0)
        finalize(self, os.close, self._bell)
        loop.add_reader(self._bell, self._open)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Mailbox:
        """The one of this loop, which must run; it lives as long as the loop."""
        found = cls._known.get(loop)
        if found is None:
            found = cls._known[loop] = cls(loop)
        return found

    def post(self, deltas: Iterable[tuple[Stream, Delta]]) -> None:
        """From any thread: one step's deltas. Those of streams that were closed are dropped."""
        self._posts.append(deltas)
        _ring(self._bell, ctypes.c_uint64(1))

    def _open(self) -> None:
        os.eventfd_read(self._bell)
        while self._posts:
            for stream, delta in self._posts.popleft():
                if stream.open > 0:
                    stream.push(delta)
