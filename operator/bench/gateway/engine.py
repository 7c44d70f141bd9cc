"""The scripted engine: healthy, and with a stream at the pace that a request asks for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bench.gateway.paces import PACES, Pace

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Engine(asyncio.Protocol):
    """A chunk for each event, as engines do. It waits for who takes nothing."""

    def __init__(self) -> None:
        self._raw = b""
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._raw += data
        head, found, body = self._raw.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET "):
            self._raw = body
            self._transport.write(HEALTHY)
        elif len(body) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
            self._raw = b""
            pace = PACES[json.loads(body)["max_tokens"]]
            self._task = asyncio.get_running_loop().create_task(self._answer(pace))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    async def _answer(self, pace: Pace) -> None:
        send, loop = self._transport.write, asyncio.get_running_loop()
        send(HEAD)
        event = pace.event
        chunk = b"%x\r\n%b\r\n" % (len(event), event)
        at = loop.time()
        for _ in range(pace.chunks):
            await self._writable.wait()
            send(chunk)
            at += pace.apart
            await asyncio.sleep(max(0.0, at - loop.time()) if pace.apart else 0.0)
        send(LAST)
