"""The clients: many streams at a time, and what they saw of them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bench.gateway.paces import DECODING, LARGE, SLOW, TOKEN, Pace

END = b"\r\n0\r\n\r\n"
ANSWER, OK = b"HTTP/1.1 ", b"HTTP/1.1 200 "
STREAM_SECONDS = 150.0
"""A stream that is not over after so long is lost."""
OPENING_SECONDS = 10.0
"""Thousands of slow streams are not opened in one moment."""
SIPS, SIP_BYTES = 30, 8 << 10
"""A slow reader takes so much each second, so many times; then the rest."""


@dataclass(slots=True)
class Seen:
    """One stream. `first`: seconds to its first chunk; `pieces`: reads that its chunks came in."""

    pace: Pace
    began: float
    first: float = 0.0
    tokens: int = 0
    pieces: int = 0
    done: bool = False
    ended: bool = False
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """What was read. An answer that is no stream is over at once."""
        text = self._rest + data
        if found := text.count(TOKEN):
            self.first = self.first or time.perf_counter() - self.began
            self.tokens += found
            self.pieces += 1
        self.done = self.done or self.pace.protocol.done in text
        self.ended = text.endswith(END) or (data.startswith(ANSWER) and not data.startswith(OK))
        self._rest = text[1 - len(TOKEN) :]  # nothing that is looked for is longer than a token

    @property
    def whole(self) -> bool:
        """Every chunk came once, and the end."""
        return self.done and self.ended and self.tokens == self.pace.chunks + self.pace.protocol.repeats


class _Reader(asyncio.Protocol):
    def __init__(self, seen: Seen) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self._seen = seen

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(_request(self._seen.pace))

    def data_received(self, data: bytes) -> None:
        self._seen.feed(data)
        if self._seen.ended:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def read(seen: Seen, port: int) -> None:
    """A stream, on a connection of its own."""
    transport, reader = await asyncio.get_running_loop().create_connection(lambda: _Reader(seen), "127.0.0.1", port)
    try:
        await reader.over
    finally:
        transport.abort()


async def sip(seen: Seen, port: int) -> None:
    """The same by a client that reads much more slowly than the engine writes."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP_BYTES)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, _request(seen.pace))
        sips = 0
        while not seen.ended and (data := await loop.sock_recv(sock, SIP_BYTES)):
            seen.feed(data)
            sips += 1
            await asyncio.sleep(1.0 if sips < SIPS else 0.0)


async def seen_of(
    how: Callable[[Seen, int], Awaitable[None]], port: int, pace: Pace, seconds: float = STREAM_SECONDS
) -> Seen:
    """One stream, read to its end, or as far as it came within so many seconds."""
    seen = Seen(pace, time.perf_counter())
    try:
        async with asyncio.timeout(seconds):
            await how(seen, port)
    except OSError:  # TimeoutError is one
        pass
    return seen


async def decoding(port: int, together: int, rounds: int, pace: Pace = DECODING) -> list[Seen]:
    """So many streams at a time, one after the other; they begin evenly over the time that one takes."""

    async def one(number: int) -> list[Seen]:
        await asyncio.sleep(pace.apart * pace.chunks * number / together)
        return [await seen_of(read, port, pace) for _ in range(rounds)]

    return [seen for row in await asyncio.gather(*(one(number) for number in range(together))) for seen in row]


async def slow(port: int, streams: int, sippers: int) -> list[Seen]:
    """Streams of a chunk now and then, all at the same time, and some that are read slowly beside them."""

    async def one(number: int) -> Seen:
        await asyncio.sleep(OPENING_SECONDS * number / (streams + sippers))
        return await (seen_of(sip, port, LARGE) if number < sippers else seen_of(read, port, SLOW))

    return await asyncio.gather(*(one(number) for number in range(streams + sippers)))


def _request(pace: Pace) -> bytes:
    body = pace.body
    head = f"POST {pace.protocol.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
