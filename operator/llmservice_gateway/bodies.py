"""The bytes of requests that are not answered yet, bounded over all of them."""

from __future__ import annotations

import asyncio

from aiohttp import web
from multidict import CIMultiDictProxy

from llmservice_gateway.clients import Asking
from llmservice_gateway.errors import body_too_slow, too_much_held
from llmservice_runtime.wire.body import read_body
from llmservice_runtime.wire.errors import body_too_large
from llmservice_runtime.wire.plain import Plain
from llmservice_runtime.wire.server import go_on

READ_AHEAD = 512 << 10
"""Bytes of a body that its connection may have read before anybody takes them."""


class Bodies:
    """`limit` bytes for all; `each` for one, packed and unpacked. One comes within `seconds`, and without a pause of
    `silent_seconds`."""

    def __init__(self, limit: int, each: int, seconds: float = 300.0, silent_seconds: float = 30.0) -> None:
        self.seconds, self.silent_seconds = seconds, silent_seconds
        self.limit = limit
        self.each = each
        self.taken = 0

    async def read(self, request: Asking) -> Body:
        """The whole body, unpacked. ApiError 413, 415, 400 for one that can't be; 429 when there is no room for it."""
        body = Body(self)
        if isinstance(request, Plain):
            if len(request.body) > self.each:
                raise body_too_large(self.each)
            body.take(len(request.body))
            body.data, request.body = request.body, b""  # or it would be held until the answer ends, and count no more
            return body
        try:
            data = await read_body(_Counted(request, body), self.each, lambda: body_too_large(self.each))
            body.take(len(data) - body.size)
            body.data = data
        except BaseException:
            body.drop()
            raise
        return body


class Body:
    """One request's. `drop` it once it can't be sent again."""

    def __init__(self, bodies: Bodies) -> None:
        self.data = b""
        self.size = 0
        self._bodies = bodies

    def take(self, size: int) -> None:
        """So many bytes more (or fewer). ApiError 429 when all together are too many."""
        if size > 0 and self._bodies.taken + size > self._bodies.limit:
            raise too_much_held(self._bodies.limit)
        self.size += size
        self._bodies.taken += size

    def put(self, name: str, value: str) -> None:
        """Ask for `value` (JSON), in place of what the JSON object (none without fields) has, in a field of chat's.
        ApiError 429 as `take`.

        Of a field that stands twice the last one counts, at every engine: so nothing has to be found in 32 MiB.
        """
        self.become(self.data.rstrip()[:-1] + f',"{name}":{value}}}'.encode())

    def become(self, data: bytes) -> None:
        """Another one takes its place. ApiError 429 as `take`."""
        self.take(len(data) - len(self.data))
        self.data = data

    def drop(self) -> None:
        """Make room for others; may be said again."""
        self.data = b""
        self._bodies.taken -= self.size
        self.size = 0


class _Counted:
    """A request whose body is counted while it comes: who says nothing of its length has no more than the others."""

    def __init__(self, request: web.Request, body: Body) -> None:
        self._request = request
        self._body = body

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._request.headers

    @property
    def content_length(self) -> int | None:
        return self._request.content_length

    async def read(self) -> bytes:
        """Within bounds of time: what comes too slowly takes room that others could have. While it comes it counts with
        the room that it grows into, and with what its connection has read ahead."""
        if self._request.content.is_eof():  # it came with its head, as nearly all do
            return self._request.content.read_nowait()
        bodies, loop = self._body._bodies, asyncio.get_running_loop()
        length = self._request.content_length
        data, end = bytearray(), loop.time() + bodies.seconds
        await go_on(self._request)
        try:
            async with asyncio.timeout(None) as bound:
                while True:
                    bound.reschedule(min(end, loop.time() + bodies.silent_seconds))
                    if not (chunk := await self._request.content.readany()):
                        return bytes(data)
                    data += chunk
                    if len(data) > bodies.each:
                        raise body_too_large(bodies.each)
                    ahead = READ_AHEAD if length is None else min(READ_AHEAD, length - len(data))
                    self._body.take(ahead + data.__alloc__() - self._body.size)
        except TimeoutError:
            raise body_too_slow(bodies.silent_seconds, bodies.seconds) from None
