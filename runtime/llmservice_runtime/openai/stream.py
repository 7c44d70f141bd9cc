"""One streamed answer over HTTP: a status while possible, comments while waiting, a well-formed end in every case."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from llmservice_runtime.openai.drain import Drain, draining
from llmservice_runtime.openai.generation import as_api_error, check
from llmservice_runtime.protocol.engine import Delta
from llmservice_runtime.wire import sse
from llmservice_runtime.wire.errors import internal

HEARTBEAT_SECONDS = 10.0
"""Until this long a request that waits still gets a real status; then headers and a comment as often as this."""

log = logging.getLogger(__name__)


class Writer(Protocol):
    """What chat and completions write: bytes of events."""

    def opening(self) -> bytes: ...
    def delta(self, delta: Delta) -> bytes: ...
    def closing(self) -> bytes: ...


async def stream(http: web.Request, deltas: AsyncIterator[Delta], writer: Writer, drain: Drain) -> web.StreamResponse:
    """Write all deltas as events. Raises before the first byte; later failures are an event and a closed connection.

    Writing waits while the client does not read: the engine meanwhile coalesces what it generates.
    """
    first = asyncio.ensure_future(anext(deltas))
    response = web.StreamResponse(headers=sse.HEADERS)
    try:
        await asyncio.wait({first}, timeout=HEARTBEAT_SECONDS)
        opening = writer.opening()
        if first.done():
            opening += writer.delta(check(first.result()))
        await response.prepare(http)
        channel = _Channel(response)
        try:
            await channel.send(opening)
            if not first.done():
                await channel.send(sse.KEEP_ALIVE)
                await channel.send(writer.delta(check(await first)))
            async for delta in deltas:
                await channel.send(writer.delta(check(delta)))
            await channel.send(writer.closing())
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError) as error:
            if isinstance(error, ConnectionError) or not drain.expired:
                raise
            await _fail(http, response, draining())
        except Exception as error:
            await _fail(http, response, error)
        finally:
            channel.stop()
    finally:
        if not first.done():
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
    return response


class _Channel:
    """Writes events, and a comment whenever nothing was written for HEARTBEAT_SECONDS."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self._last = time.monotonic()
        self._task = asyncio.ensure_future(self._beat())

    async def send(self, data: bytes) -> None:
        if data:  # a delta that is held back is nothing written, however often one comes
            self._last = time.monotonic()
            await self._response.write(data)

    async def _beat(self) -> None:
        # A connection that breaks under a comment is the reader's to notice: aiohttp cancels the handler.
        with suppress(ConnectionError):
            while True:
                idle = time.monotonic() - self._last
                if idle >= HEARTBEAT_SECONDS:
                    await self.send(sse.KEEP_ALIVE)
                    idle = 0.0
                await asyncio.sleep(HEARTBEAT_SECONDS - idle)

    def stop(self) -> None:
        self._task.cancel()


async def _fail(http: web.Request, response: web.StreamResponse, error: BaseException) -> None:
    """An error event, the end of the body, and the connection closed; never [DONE]."""
    known = as_api_error(error) if isinstance(error, Exception) else None
    if known is None:
        log.error("stream failed", exc_info=error)
        known = internal("The answer failed in this server; its log says why.")
    await response.write(sse.error_event(known.message, known.kind, known.code))
    await response.write_eof()
    if http.transport is not None:
        http.transport.close()
