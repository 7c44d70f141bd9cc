"""The answer to one client, from the first comment of a request that waits to its last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

from aiohttp import web
from aiohttp.http import StreamWriter
from aiohttp.web_protocol import RequestHandler

from llmservice_gateway.clients import Asking
from llmservice_gateway.speech import Speech, Whole
from llmservice_runtime.wire.errors import ApiError
from llmservice_runtime.wire.plain import Plain, Streamed, head_of
from llmservice_runtime.wire.sse import HEADERS

CHUNKED = {"Transfer-Encoding": "chunked"}
LAST = b"0\r\n\r\n"
"""The end of a body in chunks."""


class _Stream(web.StreamResponse):
    """Its head goes with its first bytes, in one write: each wakes the client's machine."""

    _send_headers_immediately = False  # aiohttp's own switch, which web.Response has so


class Reply:
    """Begins late: as long as nothing was sent, the status is still open."""

    def __init__(self, request: web.Request, speech: Speech) -> None:
        self._request = request
        self.speech = speech
        self._response: web.StreamResponse | None = None
        self._written = False
        """Its head is sent: what follows needs nothing but its frame."""

    @property
    def begun(self) -> bool:
        """It is a stream, and a status was sent: what goes wrong from now on is told in an event."""
        return self._response is not None

    @property
    def chunked(self) -> bool:
        """A stream's bytes are framed as chunks: HTTP/1.1."""
        return self._response is not None and self._response.headers.get("Transfer-Encoding") == "chunked"

    @property
    def transport(self) -> asyncio.Transport:
        """Of the client's connection. ConnectionResetError once it has ended."""
        if self._request.transport is None:
            raise ConnectionResetError("the client left")
        return self._request.transport

    @property
    def protocol(self) -> RequestHandler:
        """Knows whether the client takes what it is sent."""
        return self._request.protocol

    async def comment(self) -> None:
        """Tell a client that waits for a stream that this goes on; the first time that it is a stream."""
        await self.stream(200, HEADERS)
        await self.write(self.speech.beat)

    async def stream(self, status: int, headers: Mapping[str, str]) -> None:
        """It is a stream. The first caller says which; who calls has to `write`, which sends that."""
        if self._response is None:
            self._response = _Stream(status=status, headers=self.speech.heads(headers))
            await self._response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """Bytes of a stream, and before them what was said of it; without a wait for a client that takes nothing."""
        if self._written and self.chunked:
            if data:
                self.transport.write(framed(data))
            return
        self._written = True
        await cast(StreamWriter, self._request.writer).write(data, drain=False)

    async def drain(self) -> None:
        """Until the client has taken most of what it was sent."""
        await self._request.writer.drain()

    async def end(self, data: bytes = b"") -> web.StreamResponse:
        """The last bytes of a stream, and its end."""
        assert self._response is not None
        await self._response.write_eof(data)
        return self._response

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> web.StreamResponse:
        """An engine's answer that is no stream. To a client that was promised one it is an event, and an error."""
        said: Whole = (status, headers, body)
        if self.begun:
            return await self.end(self.speech.late(said))
        status, headers, body = await self.speech.whole(said)
        return web.Response(status=status, body=body, headers=headers)

    async def fail(self, error: ApiError) -> web.StreamResponse:
        """Only once it has begun: before, an error is raised."""
        return await self.end(self.speech.failure(error))


class PlainReply(Reply):
    """The same to a plain request: its bytes go straight to the client's transport."""

    chunked = True

    def __init__(self, request: Plain, speech: Speech) -> None:
        self._plain = request
        self._protocol = request.protocol
        self.speech = speech
        self._status = 0
        self._head = b""
        """Not sent yet."""

    @property
    def begun(self) -> bool:
        return bool(self._status)

    @property
    def transport(self) -> asyncio.Transport:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        return transport

    @property
    def protocol(self) -> RequestHandler:
        return self._protocol

    async def stream(self, status: int, headers: Mapping[str, str]) -> None:
        if not self._status:
            self._status = status
            self._head = head_of(status, self.speech.heads(headers), CHUNKED, self._plain.extra)

    async def write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head or data:
            self._plain.begun = True
            self.transport.write(head + framed(data))

    async def drain(self) -> None:
        if self._protocol.writing_paused:
            await self._protocol._drain_helper()

    async def end(self, data: bytes = b"") -> web.StreamResponse:
        self.transport.write(self._head + framed(data) + LAST)
        await self.drain()
        return Streamed(self._status)


def reply_to(request: Asking, speech: Speech) -> Reply:
    """The answer to a request."""
    return PlainReply(request, speech) if isinstance(request, Plain) else Reply(request, speech)


def framed(data: bytes) -> bytes:
    """A chunk of a body; nothing for no bytes, which would be its end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
