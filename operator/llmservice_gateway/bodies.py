"""The bytes of requests that are not answered yet, bounded over all of them."""

from __future__ import annotations

import json

from aiohttp import web
from multidict import CIMultiDictProxy

from llmservice_gateway.errors import too_much_held
from llmservice_runtime.wire.body import read_body
from llmservice_runtime.wire.errors import body_too_large


class Bodies:
    """`limit` bytes for all; `each` for one, packed and unpacked."""

    def __init__(self, limit: int, each: int) -> None:
        self.limit = limit
        self.each = each
        self.taken = 0

    async def read(self, request: web.Request) -> Body:
        """The whole body, unpacked. ApiError 413, 415, 400 for one that can't be; 429 when there is no room for it."""
        body = Body(self)
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

    def rename(self, model: str) -> None:
        """Ask for this model, in place of what the JSON object asks for. ApiError 429 as `take`.

        Of a field that stands twice the last one counts, at every engine: so nothing has to be found in 32 MiB.
        """
        data = self.data.rstrip()[:-1] + b',"model":' + json.dumps(model).encode() + b"}"
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
        limit, data = self._body._bodies.each, bytearray()
        while chunk := await self._request.content.readany():
            data += chunk
            if len(data) > limit:
                raise body_too_large(limit)
            self._body.take(len(chunk))
        return bytes(data)
