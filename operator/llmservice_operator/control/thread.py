"""A coroutine in a thread with a loop of its own, for what must not wait for our loop or would take it over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

JOIN_SECONDS = 15.0
"""How long the thread may take to end once it was told to."""


@asynccontextmanager
async def in_a_thread(name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[asyncio.Future[None]]:
    """Run `main()` in a thread until the block is left, then cancel it and wait for its end.

    The future belongs to the caller's loop and ends as `main` does: with its exception, or without one.
    """
    here = asyncio.get_running_loop()
    ended: asyncio.Future[None] = here.create_future()
    ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody need ask for it
    life: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []
    told = threading.Event()

    def finish(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_exception(error) if isinstance(error, Exception) else ended.set_result(None)

    async def begin() -> None:
        task = asyncio.current_task()
        assert task is not None
        life.append((asyncio.get_running_loop(), task))
        if not told.is_set():
            await main()

    def live() -> None:
        error: BaseException | None = None
        try:
            asyncio.run(begin())
        except (Exception, asyncio.CancelledError) as caught:
            error = caught
        if not here.is_closed():
            here.call_soon_threadsafe(finish, error)

    thread = threading.Thread(target=live, name=name, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        told.set()
        for loop, task in life:
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        await asyncio.to_thread(thread.join, JOIN_SECONDS)
