"""The HTTP server under every API of ours: also what is no HTTP, or too long, is answered with the one error body."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.web_protocol import RequestHandler

from llmservice_runtime.wire.errors import ApiError, cut, error_response, headers_too_large, internal, malformed
from llmservice_runtime.wire.untaken import Untaken

MAX_LINE = 8190
"""Bytes of a request line or header."""
MAX_MESSAGE = 200
CONTINUE = "100-continue"
LIKE_TLS = "it begins like TLS, and this port speaks plain HTTP"

CLIENT_SECONDS: web.AppKey[Callable[[], float]] = web.AppKey("client_seconds")
"""Of an application: how long its clients may take nothing of their answers; without it, for ever."""

log = logging.getLogger(__name__)


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
        server.client_seconds = self.app.get(CLIENT_SECONDS)
        return server


class _Server(web.Server):
    client_seconds: Callable[[], float] | None

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ("_untaken",)

    _untaken: Untaken | None

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        seconds = self._manager.client_seconds if isinstance(self._manager, _Server) else None
        if seconds is not None and self.transport is not None:
            self._untaken = Untaken(self.transport, seconds())

    def resume_writing(self) -> None:
        """It has taken most of that."""
        super().resume_writing()
        self._watch_no_more()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._watch_no_more()
        super().connection_lost(exc)

    def _watch_no_more(self) -> None:
        if (watch := getattr(self, "_untaken", None)) is not None:
            watch.stop()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what no handler saw, or what one failed with; the connection is closed after it.

        A client that hung up, or that does not speak HTTP, is no fault of this server and leaves no traceback.
        """
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            log.debug("a client hung up: %s", exc)
            raise ConnectionResetError("the client is gone, or has a part of its answer")
        if status >= 500:
            log.error("%s %s failed", request.method, request.path, exc_info=exc)
            error = internal("This server failed to answer; its log says why.")
        else:
            error = not_understood(status, exc, message or "")
            log.debug("refused a request: %s", error.message)
        response = error_response(error)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer. aiohttp's own ones, which no middleware saw, are plain text: an expectation that can't be
        met on a route without `expect`, or on none."""
        if isinstance(resp, web.HTTPException):
            wanted = request.headers.get("Expect", "")
            resp = error_response(unmet(wanted) if resp.status == 417 else malformed(resp.reason, resp.status))
        return await super().finish_response(request, resp, start_time)


def _idle(connection: RequestHandler) -> bool:
    return connection._current_request is None and not connection._messages


def not_understood(status: int, exc: BaseException | None, message: str) -> ApiError:
    """400, or 431 for a line that is too long, for bytes that are no HTTP request."""
    if isinstance(exc, LineTooLong):
        return headers_too_large(MAX_LINE)
    reason = " ".join((message or str(exc or "")).split())[:MAX_MESSAGE].rstrip(" ^.")
    if isinstance(exc, BadHttpMethod) and "\\x16\\x03" in reason:
        reason = LIKE_TLS
    return malformed(reason, status)


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


def unmet(wanted: str) -> ApiError:
    """417 for an `Expect` header."""
    return ApiError(417, f"`Expect: {cut(wanted)}` can't be met; use 100-continue.", code="expectation")
