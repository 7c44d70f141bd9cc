"""The gateway in front of one replica, in a thread of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from aiohttp import web

from llmservice_gateway.app import Gateway
from llmservice_gateway.routing import Backend, Replica, Table
from llmservice_runtime.wire.server import ApiRunner

from .engines import ALIAS, CONTEXT, NAME


@contextmanager
def gateway_before(engine: str) -> Iterator[str]:
    """The base URL, without /v1, of a gateway that knows the replica at `engine` as the demo service."""
    told: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(lambda: asyncio.run(_serve(engine, told)))
        running.add_done_callback(partial(_failed, told))
        url, loop, over = told.result()
        try:
            yield url
        finally:
            loop.call_soon_threadsafe(over.set)
            running.result()


def _failed(told: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]], done: Future[None]) -> None:
    if not told.done():
        told.set_exception(done.exception() or RuntimeError("the gateway ended"))


async def _serve(engine: str, told: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    gateway, over = Gateway(), asyncio.Event()
    replicas = (Replica("demo-0", engine),)
    backend = Backend(NAME.partition("/")[0], ALIAS, replicas, context_tokens=CONTEXT)
    gateway.proxy.publish(Table({NAME: backend}))
    runner = ApiRunner(gateway.application(), handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.set_result((f"http://127.0.0.1:{runner.addresses[0][1]}", asyncio.get_running_loop(), over))
        await over.wait()
    finally:
        await runner.cleanup()
