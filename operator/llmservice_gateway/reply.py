"""The answer to one client, from the first comment of a request that waits to its last byte."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from llmservice_runtime.wire.errors import ApiError, error_text
from llmservice_runtime.wire.sse import HEADERS, KEEP_ALIVE


class Reply:
    """Begins late: as long as nothing was sent, the status is still open."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None

    @property
    def begun(self) -> bool:
        """A status was sent: what goes wrong from now on is told in an event."""
        return self._response is not None

    @property
    def chunked(self) -> bool:
        """A stream's bytes are framed as chunks: HTTP/1.1."""
        return self._response is not None and self._response.headers.get("Transfer-Encoding") == "chunked"

    async def comment(self) -> None:
        """Tell a client that waits for a stream that this goes on; the first time that it is a stream."""
        response = await self.stream(200, HEADERS)
        await response.write(KEEP_ALIVE)

    async def stream(self, status: int, headers: Mapping[str, str]) -> web.StreamResponse:
        """Where a stream's bytes go. The first caller says what it is."""
        if self._response is None:
            self._response = web.StreamResponse(status=status, headers=headers)
            await self._response.prepare(self._request)
        return self._response

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> web.StreamResponse:
        """An answer that is no stream. To a client that was promised one it is an event, without [DONE]: an error."""
        if self._response is None:
            return web.Response(status=status, body=body, headers=headers)
        await self._response.write(b"data: " + b" ".join(body.splitlines()) + b"\n\n")
        await self._response.write_eof()
        return self._response

    async def fail(self, error: ApiError) -> web.StreamResponse:
        """Only once it has begun: before, an error is raised."""
        return await self.whole(error.status, {}, error_text(error))
