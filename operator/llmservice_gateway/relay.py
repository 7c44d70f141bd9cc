"""Passing on a stream's events, each whole, so that an error event can follow the last one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from llmservice_runtime.wire.sse import error_event

TWO_LINE_ENDS = (b"\n\n", b"\n\r", b"\r\r")
"""An event ends with an empty line, and a line with LF, CR LF or CR: whichever of them two stand together, one of these
is in it (LF CR is also the middle of CR LF CR LF)."""
EVENT_LIMIT = 8 * 1024 * 1024
"""An unfinished event is kept back up to this many bytes."""


@dataclass(frozen=True, slots=True)
class Ending:
    """`tail`: the last bytes that were passed on. `chunks` came after the first one, the last of them at `last` (the
    loop's time). `broken`: why there are no more; None = the stream is whole."""

    tail: bytes
    chunks: int
    last: float
    broken: Exception | None = None


async def relay(content: aiohttp.StreamReader, chunk: bytes, response: web.StreamResponse, idle: float) -> Ending:
    """Pass on `chunk` and all that follows; of a stream that breaks, the unfinished event is left out.

    `idle` seconds without a byte are TimeoutError.
    """
    loop = asyncio.get_running_loop()
    before = data = rest = b""
    chunks, now = -1, 0.0
    while chunk:
        chunks, now = chunks + 1, loop.time()
        last = data
        data, rest = whole_events(rest + chunk if rest else chunk)
        if data:
            before = last
            await response.write(data)
        try:
            async with asyncio.timeout_at(now + idle):
                chunk = await content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Ending(before + data, chunks, now, error)
    if rest:
        await response.write(rest)
    return Ending(before + data + rest, chunks, now)


def whole_events(data: bytes) -> tuple[bytes, bytes]:
    """(what ends with an event's end, the unfinished rest). The rest is kept back so that an error event can follow."""
    if data.endswith(b"\n\n"):
        return data, b""
    end = max(data.rfind(two) for two in TWO_LINE_ENDS) + 2
    if end < 2:
        end = len(data) if len(data) > EVENT_LIMIT else 0
    # Line ends begin no event: the last LF of CR LF CR LF may come alone, and its reader waits for it.
    end = len(data) - len(data[end:].lstrip(b"\r\n"))
    return data[:end], data[end:]


def broken_event(service: str, error: Exception, idle: float) -> bytes:
    """What a stream ends with whose replica failed after its first byte."""
    what = f"sent nothing for {idle:.0f} s" if isinstance(error, TimeoutError) else "ended in the middle of this answer"
    message = f"The replica of {service} {what}. What came so far is incomplete; ask again."
    return error_event(message, "server_error", "replica_lost")
