"""One connection to an engine: HTTP/1.1 as engines speak it, a request at a time, on the event loop's own protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from llmservice_gateway.framing import Chunked, Framing, FramingError, Sized, UntilEnd

MAX_HEAD = 64 << 10
"""Bytes of an answer's status line and headers."""
MAX_ANNOUNCED = 16
"""Answers of status 1xx before the one that counts: each is read by itself, while everybody else waits."""
BUFFERED = 1 << 20
"""Bytes of a stream that nobody has taken yet; then the engine waits."""


class EngineError(ConnectionError):
    """The connection ended, or what came is no HTTP/1.1, before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    keep: bool
    """The connection may serve another request afterwards."""
    streams: bool
    """It is a stream of events: an error is none, whatever it is called."""


def read_head(raw: bytes) -> tuple[Head, Framing]:
    """From the bytes before the empty line. EngineError for what is no answer."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not status.isdecimal() or rest[3:4] not in ("", " "):
        raise EngineError("the engine's answer is no HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or not name:
            raise EngineError("the engine's answer has a header that is none")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    keep = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    head = Head(int(status), headers, keep, streams=status == "200" and kind == "text/event-stream")
    return head, _framing(int(status), headers)


def _framing(status: int, headers: Mapping[str, str]) -> Framing:
    if status in (204, 304):
        return Sized(0)
    coding, length = headers.get("transfer-encoding", "").lower(), headers.get("content-length")
    if coding:
        if coding != "chunked":
            raise EngineError(f"the engine's answer is encoded as {coding[:80]}")
        return Chunked()
    if length is None:
        return UntilEnd()
    if not length.isdecimal() or not length.isascii() or len(length) > 18:
        raise EngineError("the engine's answer has a length that is none")
    return Sized(int(length))


class Connection(asyncio.Protocol):
    """`ask`, then `some` until there is no more; then again, if it is `reusable`. `close` ends what the engine does."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.head: Head | None = None
        self.framing: Framing | None = None
        self.idle_since = 0.0
        """The loop's time at which it was last given back."""
        self._raw = b""
        self._announced = 0
        self._buffer = bytearray()
        self._error: Exception | None = None
        self._waits: asyncio.Future[None] | None = None
        self._paused = False

    @property
    def reusable(self) -> bool:
        """The answer is whole, and another request may follow it."""
        if self.transport is None or self.transport.is_closing() or self._error or self.head is None:
            return False
        assert self.framing is not None
        return self.head.keep and self.framing.done and not self.framing.excess

    def close(self) -> None:
        """At once, whatever is on its way."""
        if self.transport is not None:
            self.transport.abort()

    async def ask(self, request: bytes, body: bytes) -> Head:
        """Send a request; the beginning of its answer. EngineError."""
        self.head, self.framing, self._raw, self._announced = None, None, b"", 0
        self._buffer.clear()
        if self.transport is None:
            raise EngineError("the connection has ended")
        self.transport.write(request + body if len(body) < BUFFERED else request)
        if len(body) >= BUFFERED:
            self.transport.write(body)
        return await self._head()

    async def _head(self) -> Head:
        while self.head is None:
            await self._news()
        return self.head

    async def some(self) -> bytes:
        """The next bytes of the body; empty = it is whole. EngineError when it is not."""
        assert self.framing is not None
        while not self._buffer:
            if self.framing.done:
                return b""
            await self._news()
        return self.taken()

    def taken(self) -> bytes:
        """What is there of the body now."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def _news(self) -> None:
        if self._error is not None:
            raise self._error
        self._waits = asyncio.get_running_loop().create_future()
        await self._waits

    def _tell(self) -> None:
        """Something has changed for whoever waits for news."""
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods alone

    def data_received(self, data: bytes) -> None:
        try:
            while self.framing is None:
                data = self._read_head(data)
                if not data and self.framing is None:
                    return
            self._buffer += self.framing.feed(data)
        except (EngineError, FramingError) as error:
            self._fail(error if isinstance(error, EngineError) else EngineError(f"the engine's answer: {error}"))
            self.close()
            return
        if len(self._buffer) > BUFFERED and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._tell()

    def _read_head(self, data: bytes) -> bytes:
        raw, found, rest = (self._raw + data).partition(b"\r\n\r\n")
        if len(raw) > MAX_HEAD:
            raise EngineError("the engine's headers are too long")
        if not found:
            self._raw = raw
            return b""
        self._raw = b""
        head, framing = read_head(raw)
        if head.status >= 200:  # 1xx announce an answer
            self.head, self.framing = head, framing
            return rest
        self._announced += 1
        if self._announced > MAX_ANNOUNCED:
            raise EngineError("the engine announces its answer without end")
        return rest

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.framing is None or not self.framing.end():
            self._fail(EngineError(str(exc) if exc else "the engine ended the connection"))
        self._tell()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._tell()
