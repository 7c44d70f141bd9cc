"""Passing on a stream: a splice of two transports. Bytes go down as they come, but for an event that is not whole yet.

An unfinished event is kept back, so that an error event can follow the last whole one when the replica breaks.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from llmservice_gateway.engine import Connection, EngineError
from llmservice_gateway.framing import DIGITS, Chunked, FramingError
from llmservice_gateway.spent import MARK, without_usage
from llmservice_runtime.wire.sse import error_event

TWO_LINE_ENDS = (b"\n\n", b"\n\r", b"\r\r")
"""An event ends with an empty line, and a line with LF, CR LF or CR: whichever of them two stand together, one of these
is in it (LF CR is also the middle of CR LF CR LF)."""
EVENT_LIMIT = 8 * 1024 * 1024
"""An unfinished event is kept back up to this many bytes."""
SIZE_DIGITS = 12
"""Of a chunk that is passed on as it is, at most."""


@dataclass(slots=True)
class Passed:
    """What went by, also of a stream whose client left. `chunks` came after the first one, the last of them at `last`
    (the loop's time, 0 = the stream did not end). `usage`: the last events that tell of it, and what came with them."""

    usage: bytes = b""
    chunks: int = 0
    last: float = 0.0


async def relay(
    source: Connection,
    first: bytes,
    request: web.Request,
    idle: float,
    passed: Passed,
    *,
    chunked: bool,
    strips: bool = False,
) -> Exception | None:
    """Pass on `first` and all that follows; why there is no more: None = the stream is whole. Fills `passed`.

    Of a stream that breaks the unfinished event is left out. The answer's head was sent to the client of `request`;
    `chunked` = the rest is framed so. `strips`: what tells of usage alone stays here. `idle` seconds without a byte are
    TimeoutError, and at most a quarter more; a client that takes nothing for so long is let go (ConnectionResetError).
    """
    splice = Splice(source, request, idle, passed, chunked=chunked, strips=strips)
    try:
        splice.start(first)
        return await splice.ended
    finally:
        splice.stop()


class Splice(asyncio.Protocol):
    """Takes the engine's transport over from its connection until the answer ends, and gives it back."""

    def __init__(
        self, source: Connection, request: web.Request, idle: float, passed: Passed, *, chunked: bool, strips: bool
    ) -> None:
        assert source.framing is not None and request.transport is not None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exception | None] = self._loop.create_future()
        self._source = source
        self._engine = source.transport
        self._framing = source.framing
        self._request = request
        self._reader = request.protocol
        self._client = request.transport
        self._write: Callable[[bytes], None] = request.transport.write
        self._passed = passed
        self._chunked, self._strips = chunked, strips
        self._plain = chunked and isinstance(self._framing, Chunked)
        """Whole chunks that end with an event can be passed on as they came: nothing is kept back or half read."""
        self._chunks = -1
        self._seen = -1
        self._rest = bytearray()
        self._idle = idle
        self._silent = 0
        self._untaken = 0
        """Bytes that the client had not taken at the last look."""
        self._timer = self._loop.call_later(idle / 4, self._look)
        self._draining: asyncio.Task[None] | None = None

    def start(self, first: bytes) -> None:
        """`first` and what came behind it, then whatever comes."""
        if self._engine is not None:
            self._engine.set_protocol(self)
        self._chunks += 1
        if self._client.is_closing():
            self._left()
            return
        self._pass(first + self._source.taken())
        if self._framing.done:
            self._end()
        elif self._engine is None:
            self.connection_lost(None)

    def stop(self) -> None:
        """The engine's transport is its connection's again."""
        self._timer.cancel()
        self._passed.chunks = self._chunks
        if self._engine is not None:
            self._engine.set_protocol(self._source)
        if self._draining is not None:
            self._draining.cancel()
            if self._engine is not None and not self._engine.is_closing():
                self._engine.resume_reading()  # or its next answer would never come

    def data_received(self, data: bytes) -> None:
        self._chunks += 1
        if self._client.is_closing():
            self._left()
            return
        if self._plain and data.endswith(b"\n\n\r\n") and whole_chunks(data):
            tells = MARK in data
            if tells:
                self._passed.usage = data
            if not (tells and self._strips):
                self._write(data)
                if self._reader.writing_paused:
                    self._hold_engine()
                return
        try:
            self._pass(self._framing.feed(data))
        except FramingError as error:
            self._end(EngineError(f"the engine's answer: {error}"))
            return
        if self._framing.done:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine = None
        self._source.connection_lost(exc)
        whole = self._framing.end()
        self._end(None if whole else EngineError(str(exc) if exc else "the engine ended the connection"))

    def _left(self) -> None:
        """The client is gone: what comes is nobody's, and the engine is told by the end of its connection."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionResetError("the client left"))
        self._source.close()

    def _pass(self, data: bytes) -> None:
        if self._rest and goes_on(self._rest, data):
            self._rest += data
            return
        whole, rest = whole_events(bytes(self._rest) + data if self._rest else data)
        self._rest = bytearray(rest)
        self._put(whole)
        self._plain = self._chunked and not self._rest and isinstance(self._framing, Chunked) and self._framing.between
        if self._reader.writing_paused:
            self._hold_engine()

    def _put(self, data: bytes) -> None:
        """Whole events."""
        if MARK in data:
            self._passed.usage = data
            data = without_usage(data) if self._strips else data
        if data:
            self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _hold_engine(self) -> None:
        """The client reads more slowly than the engine writes: that costs it alone."""
        if self._draining is None and self._engine is not None and not self.ended.done():
            self._engine.pause_reading()
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._request.writer.drain()
        except ConnectionError:
            return  # whoever relays is told that the client left
        finally:
            self._draining = None
        if self._engine is not None and not self._engine.is_closing():
            self._engine.resume_reading()

    def _look(self) -> None:
        """A quarter of the bound is over."""
        waits_for_client = self._draining is not None
        untaken = untaken_of(self._client) if waits_for_client else 0
        moves = self._chunks != self._seen or untaken != self._untaken
        self._silent = 0 if moves else self._silent + 1
        self._seen, self._untaken = self._chunks, untaken
        if self._silent >= 4 and waits_for_client:  # it has a place at the replica, which others wait for
            self._client.abort()
            self._left()
        elif self._silent >= 4:
            self._end(TimeoutError())
        else:
            self._timer = self._loop.call_later(self._idle / 4, self._look)

    def _end(self, broken: Exception | None = None) -> None:
        if self.ended.done():
            return
        if broken is None and self._rest and not self._client.is_closing():
            self._put(bytes(self._rest))
        self._rest.clear()
        self._passed.last = self._loop.time()
        self.ended.set_result(broken)


def untaken_of(transport: asyncio.Transport) -> int:
    """Bytes that its other end has not taken: those here, and those that the kernel has, which may be some MB."""
    waiting = transport.get_write_buffer_size()
    try:
        (sent,) = struct.unpack(
            "i", fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        )
    except (AttributeError, OSError):
        return waiting
    return waiting + int(sent)


def whole_chunks(data: bytes) -> bool:
    """Whether these are chunks from the first byte of one to the last byte of one, without the last of all."""
    at = 0
    while at < len(data):
        line = data.find(b"\r\n", at, at + SIZE_DIGITS)
        digits = data[at:line] if line > 0 else b""
        if not digits or digits.strip(
            DIGITS
        ):  # int() takes signs, spaces, 0x and _, which other readers read otherwise
            return False
        size = int(digits, 16)
        at = line + size + 4
        if not size or data[at - 2 : at] != b"\r\n":
            return False
    return at == len(data)


def goes_on(rest: bytearray, data: bytes) -> bool:
    """Whether an unfinished event is unfinished still; without a look at all of it for each piece that comes."""
    seam = rest[-1:] + data
    return len(rest) + len(data) <= EVENT_LIMIT and not any(two in seam for two in TWO_LINE_ENDS)


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
