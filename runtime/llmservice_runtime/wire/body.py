"""The body of a request, unpacked within bounds."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Callable
from typing import Protocol

from multidict import MultiMapping

from llmservice_runtime.wire.errors import ApiError, bad_request, cut

MAX_PARTS = 500_000
"""Texts, lists and objects in a body, or eight times as many numbers: Python makes an object of each in one go, while
every other thread waits."""
THREAD_BYTES = 64 << 10
"""Larger ones are unpacked off the event loop."""
GZIP, ZLIB, RAW = 31, 15, -15
"""zlib's numbers. `deflate` means zlib's format; some clients send the bare stream."""
MAX_MEMBERS = 64
"""Of a gzip body. For each, what follows it is copied: thousands of empty ones take minutes, in a thread that nobody
can stop."""
UNPACKED = {"gzip": (GZIP,), "x-gzip": (GZIP,), "deflate": (ZLIB, RAW)}


class _Broken(ValueError):
    pass


class NumberError(ValueError):
    """JSON allows a number that nothing here can hold: read as infinite, it would be written as no JSON."""


def finite(text: str) -> float:
    """`parse_float` of a body. NumberError for 1e400."""
    value = float(text)
    if math.isinf(value):
        raise NumberError(f"{cut(text)} is larger than any number can be here")
    return value


class Incoming(Protocol):
    """A request whose body is not read yet: aiohttp's, or another server's."""

    @property
    def headers(self) -> MultiMapping[str]: ...
    @property
    def content_length(self) -> int | None: ...
    async def read(self) -> bytes: ...


async def read_body(request: Incoming, limit: int, too_large: Callable[[], ApiError]) -> bytes:
    """The whole body, unpacked. ApiError 415 for an encoding that is not known, 400 for one that is broken.

    `limit` is in bytes and holds for the unpacked body too; a larger one is not read when the client says so. The
    server must not unpack by itself (`ApiRunner`).
    """
    encoding = encoding_of(request.headers)
    if (request.content_length or 0) > limit:
        raise too_large()
    data = await request.read()
    if not encoding:
        return data
    try:
        if len(data) < THREAD_BYTES:
            unpacked = unpack(data, encoding, limit)
        else:
            unpacked = await asyncio.to_thread(unpack, data, encoding, limit)
    except _Broken as error:
        raise bad_request(f"The body is no {encoding}: {error}.", code="invalid_encoding") from error
    if len(unpacked) > limit:
        raise too_large()
    return unpacked


def bound_parts(data: bytes, most: int = MAX_PARTS) -> None:
    """ApiError 413 for JSON of so many parts that reading it stops everybody else; takes a small part of that time."""
    if len(data) <= most or sum(data.count(sign) for sign in (b'"', b"[", b"{", b",")) <= most:
        return
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = bare.count(b'"') // 2
    if parts <= most:
        outside = b"".join(bare.split(b'"')[::2])
        parts += outside.count(b"[") + outside.count(b"{") + outside.count(b",") // 8
    if parts > most:
        message = f"The body has more than {most} texts, lists and objects, or {8 * most} numbers."
        raise ApiError(413, message, code="request_too_large")


def encoding_of(headers: MultiMapping[str]) -> str:
    """The one encoding of the body, empty = none. ApiError 415 for any that is not known, or several."""
    written = ", ".join(headers.getall("Content-Encoding", ()))
    names = [name for part in written.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(names) > 1 or not set(names) <= set(UNPACKED):
        known = ", ".join(UNPACKED)
        message = f"`Content-Encoding: {written[:80]}` is not supported; send the body plain, or one of {known}."
        raise ApiError(415, message, code="unsupported_encoding", headers={"Accept-Encoding": known})
    return names[0] if names else ""


def unpack(data: bytes, encoding: str, limit: int) -> bytes:
    """The unpacked bytes; of more than `limit`, a few more than that. Raises ValueError when they are not whole."""
    for number, wbits in enumerate(UNPACKED[encoding], 1):
        try:
            return _unpack(data, wbits, limit)
        except zlib.error as error:
            if number == len(UNPACKED[encoding]):
                raise _Broken(str(error)) from error
    raise AssertionError(encoding)


def _unpack(data: bytes, wbits: int, limit: int) -> bytes:
    found = b""
    for _ in range(MAX_MEMBERS):
        unpacker = zlib.decompressobj(wbits)
        found += unpacker.decompress(data, limit + 1 - len(found))
        if len(found) > limit:
            return found
        if not unpacker.eof:
            raise _Broken("it ends too soon")
        data = unpacker.unused_data
        if not data:
            return found
        if wbits != GZIP:
            raise _Broken("something follows it")
    raise _Broken(f"it has more than {MAX_MEMBERS} members")
