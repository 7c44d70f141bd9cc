"""Passing on a stream: a splice of two transports. Bytes go down as they come, but for an event that is not whole yet.

An unfinished event is kept back, so that an error event can follow the last whole one when the replica breaks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from os import write

from llmservice_gateway.engine import Connection, EngineError
from llmservice_gateway.framing import DIGITS, Chunked, FramingError
from llmservice_gateway.reply import Reply
from llmservice_gateway.spent import MARK, without_usage
from llmservice_runtime.wire.errors import ApiError

TWO_LINE_ENDS = (b"\n\n", b"\n\r", b"\r\r")
"""An event ends with an empty line, and a line with LF, CR LF or CR: whichever of them two stand together, one of these
is in it (LF CR is also the middle of CR LF CR LF)."""
EVENT_LIMIT, EVENTS_LIMIT = 1 << 20, 64 << 20
"""Bytes of an unfinished event that are kept back, and of those of all streams; what is more is passed on as it is."""
DONE = (b"data: [DONE]", b"data:[DONE]")
"""What engines end a stream with. A client that has it has all."""
SIZE_DIGITS = 12
"""Of a chunk that is passed on as it is, at most."""
FIRST_LINES = {size + len(line := b"%x\r\n" % size) + 2: line for size in range(1, 4096)}
"""Of a chunk that is so many bytes long with its framing. Most chunks come alone, and are known by it and their end:
that costs a processor, which has done something else since the last one, less than to read them."""


@dataclass(slots=True)
class Kept:
    """Bytes of unfinished events that are kept back, of all streams: engines are their tenants'."""

    size: int = 0

    def limit(self, own: int) -> int:
        """For a stream that keeps `own` of them."""
        return min(EVENT_LIMIT, EVENTS_LIMIT - self.size + own)


@dataclass(slots=True)
class Passed:
    """What went by, also of a stream whose client left. `chunks` came after the first one, the last of them at `last`
    (the loop's time, 0 = the stream did not end). `usage`: the last events that tell of it, and what came with them;
    `counted`: the (prompt, answer) tokens in them, where they were read.
    `rest` is not sent yet: it goes with the answer's end, in one write."""

    usage: bytes = b""
    counted: tuple[int, int] | None = None
    chunks: int = 0
    last: float = 0.0
    rest: bytes = b""


async def relay(
    source: Connection, first: bytes, reply: Reply, idle: float, passed: Passed, kept: Kept, *, strips: bool = False
) -> Exception | None:
    """Pass on `first` and all that follows; why there is no more: None = the stream is whole. Fills `passed`.

    Of a stream that breaks the unfinished event is left out; one that breaks after [DONE] is whole. `reply` has begun
    as a stream. `strips`: what tells of usage alone stays here. `idle` seconds without a byte are TimeoutError, and at
    most a quarter more.
    """
    splice = Splice(source, reply, idle, passed, kept, strips=strips)
    try:
        await splice.start(first)
        return await splice.ended
    finally:
        splice.stop()


class Splice(asyncio.Protocol):
    """Takes the engine's transport over from its connection until the answer ends, and gives it back."""

    def __init__(
        self, source: Connection, reply: Reply, idle: float, passed: Passed, kept: Kept, *, strips: bool
    ) -> None:
        assert source.framing is not None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exception | None] = self._loop.create_future()
        self._source = source
        self._engine = source.transport
        self._framing = source.framing
        self._reply = reply
        self._reader = reply.protocol
        self._client = reply.transport
        self._socket = socket_of(self._client)
        self._unsent = self._client.get_write_buffer_size if self._socket >= 0 else lambda: 1
        self._passed = passed
        self._chunked, self._strips = reply.chunked, strips
        self._plain = False
        """Whole chunks that end with an event can be passed on as they came: nothing is kept back or half read."""
        self._chunks = 0
        self._seen = -1
        self._rest = bytearray()
        self._kept = kept
        self._latest = b""
        """The end of what was passed on."""
        self._idle = idle
        self._silent = 0
        self._timer = self._loop.call_later(idle / 4, self._look)
        self._draining: asyncio.Task[None] | None = None

    async def start(self, first: bytes) -> None:
        """`first` and what came behind it go with the answer's head; then whatever comes."""
        whole = self._whole(first + self._source.taken())
        if self._framing.done:
            self._end(last=whole)
            return
        await self._reply.write(whole)
        if self._engine is None:
            self.connection_lost(None)
        else:
            self._engine.set_protocol(self)
            self._heed_client()

    def stop(self) -> None:
        """The engine's transport is its connection's again."""
        self._timer.cancel()
        self._passed.chunks = self._chunks
        self._keep(b"")
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
        if (
            self._plain
            and data.endswith(b"\n\n\r\n")
            and MARK not in data
            and (data.startswith(FIRST_LINES.get(len(data), ())) or whole_chunks(data))
        ):
            self._latest = data
            if self._unsent():
                self._queue(data)
                return
            try:
                sent = write(self._socket, data)  # past the loop's own queue, which is empty
            except OSError:  # the kernel takes none, or the client is gone, which its transport finds out
                sent = 0
            if sent < len(data):
                self._queue(data[sent:])
            return
        try:
            whole = self._whole(self._framing.feed(data))
        except FramingError as error:
            self._end(EngineError(f"the engine's answer: {error}"))
            return
        if self._framing.done:
            self._end(last=whole)
        else:
            self._put(whole)

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

    def _whole(self, data: bytes) -> bytes:
        """The events that are whole with `data`, but what stays here; an unfinished one is kept back."""
        limit = self._kept.limit(len(self._rest))
        if self._rest and goes_on(self._rest, data, limit):
            self._rest += data
            self._kept.size += len(data)
            return b""
        whole, rest = whole_events(bytes(self._rest) + data if self._rest else data, limit)
        self._keep(rest)
        self._plain = self._chunked and not rest and isinstance(self._framing, Chunked) and self._framing.between
        self._latest = whole or self._latest
        return self._told(whole)

    def _keep(self, rest: bytes) -> None:
        if rest or self._rest:
            self._kept.size += len(rest) - len(self._rest)
            self._rest = bytearray(rest)

    def _told(self, events: bytes) -> bytes:
        """What of whole events is the client's."""
        if MARK not in events:
            return events
        self._passed.usage = events
        return without_usage(events) if self._strips else events

    def _put(self, data: bytes) -> None:
        if data:
            self._queue(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _queue(self, data: bytes) -> None:
        self._client.write(data)
        self._heed_client()

    def _heed_client(self) -> None:
        """One that reads more slowly than the engine writes holds it: that costs it alone."""
        if self._reader.writing_paused and self._draining is None and self._engine is not None:
            self._engine.pause_reading()
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._reply.drain()
        except ConnectionError:
            return  # whoever relays is told that the client left
        finally:
            self._draining = None
        if self._engine is not None and not self._engine.is_closing():
            self._engine.resume_reading()

    def _look(self) -> None:
        """A quarter of the bound is over. An engine that is held up for its client is not silent."""
        moves = self._chunks != self._seen or self._draining is not None
        self._silent = 0 if moves else self._silent + 1
        self._seen = self._chunks
        if self._silent >= 4:
            self._end(TimeoutError())
        else:
            self._timer = self._loop.call_later(self._idle / 4, self._look)

    def _end(self, broken: Exception | None = None, last: bytes = b"") -> None:
        """`last`: what of the stream is whole and not sent yet."""
        if self.ended.done():
            return
        self._passed.rest = last + self._told(bytes(self._rest)) if broken is None else b""
        self._passed.last = self._loop.time()
        told_all = self._latest[-20:].rstrip(b"\r\n").endswith(DONE)
        self.ended.set_result(None if told_all else broken)


def socket_of(transport: asyncio.Transport) -> int:
    """What bytes can be written to as they are; -1 where the transport makes others of them (TLS)."""
    socket = transport.get_extra_info("socket")
    return -1 if socket is None or transport.get_extra_info("sslcontext") else int(socket.fileno())


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


def goes_on(rest: bytearray, data: bytes, limit: int = EVENT_LIMIT) -> bool:
    """Whether an unfinished event is unfinished still; without a look at all of it for each piece that comes."""
    seam = rest[-1:] + data
    return len(rest) + len(data) <= limit and not any(two in seam for two in TWO_LINE_ENDS)


def whole_events(data: bytes, limit: int = EVENT_LIMIT) -> tuple[bytes, bytes]:
    """(what ends with an event's end, the unfinished rest). The rest is kept back so that an error event can follow;
    one of more than `limit` bytes is not."""
    if data.endswith(b"\n\n"):
        return data, b""
    end = max(data.rfind(two) for two in TWO_LINE_ENDS) + 2
    if end < 2:
        end = len(data) if len(data) > limit else 0
    # Line ends begin no event: the last LF of CR LF CR LF may come alone, and its reader waits for it.
    end = len(data) - len(data[end:].lstrip(b"\r\n"))
    return data[:end], data[end:]


def broken(service: str, error: Exception, idle: float) -> ApiError:
    """What a stream ends with whose replica failed after its first byte."""
    what = f"sent nothing for {idle:.0f} s" if isinstance(error, TimeoutError) else "ended in the middle of this answer"
    message = f"The replica of {service} {what}. What came so far is incomplete; ask again."
    return ApiError(502, message, code="replica_lost", kind="server_error")
