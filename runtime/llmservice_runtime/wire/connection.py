"""One client's connection to an API of ours: what is no HTTP, or too long, is answered with the one error body."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.web_protocol import RequestHandler

from llmservice_runtime.wire.errors import ApiError, cut, error_response, headers_too_large, internal, malformed
from llmservice_runtime.wire.untaken import Untaken

MAX_LINE = 8190
"""Bytes of a request line or header."""
MAX_MESSAGE = 200
LIKE_TLS = "it begins like TLS, and this port speaks plain HTTP"

log = logging.getLogger(__name__)


class ClientsServer(web.Server):
    """`client_seconds`: how long a client may take nothing of its answer; None = for ever."""

    client_seconds: Callable[[], float] | None


class Connection(RequestHandler):
    """aiohttp's, with our errors; a client that takes nothing is let go."""

    __slots__ = ("_untaken",)

    _untaken: Untaken | None

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        seconds = self._manager.client_seconds if isinstance(self._manager, ClientsServer) else None
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


def not_understood(status: int, exc: BaseException | None, message: str) -> ApiError:
    """400, or 431 for a line that is too long, for bytes that are no HTTP request."""
    if isinstance(exc, LineTooLong):
        return headers_too_large(MAX_LINE)
    reason = " ".join((message or str(exc or "")).split())[:MAX_MESSAGE].rstrip(" ^.")
    if isinstance(exc, BadHttpMethod) and "\\x16\\x03" in reason:
        reason = LIKE_TLS
    return malformed(reason, status)


def unmet(wanted: str) -> ApiError:
    """417 for an `Expect` header."""
    return ApiError(417, f"`Expect: {cut(wanted)}` can't be met; use 100-continue.", code="expectation")
