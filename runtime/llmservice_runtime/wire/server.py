"""The HTTP server under every API of ours: also what is no HTTP, or too long, is answered with the one error body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestHandler

from llmservice_runtime.wire.connection import ClientsServer, Connection, unmet
from llmservice_runtime.wire.errors import error_response
from llmservice_runtime.wire.lane import Lane
from llmservice_runtime.wire.plain import Take

CONTINUE = "100-continue"
CLIENT_SECONDS: web.AppKey[Callable[[], float]] = web.AppKey("client_seconds")
"""Of an application: how long its clients may take nothing of their answers; without it, for ever."""
PLAIN: web.AppKey[Take] = web.AppKey("plain")
"""Of an application: what answers plain requests (plain.py) before aiohttp sees them."""


class ApiRunner(web.AppRunner):
    """Runs an application. Bodies come as they were sent: `body.read_body` reads encoded ones within bounds."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, auto_decompress=False, **options)

    def close_connections(self) -> None:
        """Close those without a request now, the others after their answers.

        aiohttp's own `pre_shutdown` ends the tasks of idle ones, and leaves their sockets to the garbage collector.
        """
        for connection in self.server.connections if self.server is not None else ():
            connection.force_close() if _idle(connection) else connection.close()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        assert isinstance(server, _Server)
        server.client_seconds, server.plain = self.app.get(CLIENT_SECONDS), self.app.get(PLAIN)
        return server


class _Server(ClientsServer):
    plain: Take | None

    def __call__(self) -> RequestHandler:
        if self.plain is not None:
            return Lane(self, self.plain, loop=self._loop, **self._kwargs)
        return Connection(self, loop=self._loop, **self._kwargs)


def _idle(connection: RequestHandler) -> bool:
    return not connection._request_in_progress and connection._current_request is None and not connection._messages


async def expect(request: web.Request) -> web.StreamResponse | None:
    """`expect_handler` of routes: 100-continue, and 417 with the error body for anything else."""
    if (refused := await expect_later(request)) is None:
        await go_on(request)
    return refused


async def expect_later(request: web.Request) -> web.StreamResponse | None:
    """The same where `go_on` is said when the body is wanted: by then it is known who asks, and how much comes."""
    wanted = request.headers.get("Expect", "")
    return None if wanted.lower() == CONTINUE else error_response(unmet(wanted))


async def go_on(request: web.Request) -> None:
    """Have a client send its body that waits for that."""
    if request.headers.get("Expect", "").lower() == CONTINUE and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # no part of the answer
