"""The HTTP under vLLM's server: also what is no HTTP, or too long, is answered with the one error body."""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmservice_runtime.engines.vllm.serve.asgi import JSON
from llmservice_runtime.wire.connection import LIKE_TLS, MAX_LINE
from llmservice_runtime.wire.errors import ApiError, error_text, headers_too_large, malformed

MAX_HEAD = 64 << 10
"""Bytes of a request before its body; uvicorn's parser keeps as many as come."""
LINGER_SECONDS = 2.0
"""A refused client may still send: closing on that would take the answer from it."""
TLS = b"\x16\x03"


class Connection(HttpToolsProtocol):  # type: ignore[misc]
    """One connection. What callbacks of the parser raise comes back in `send_400_response`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._first = b""
        self._head = 0
        """Bytes so far of a head that is not whole; -1 = none is read."""
        self._refused = False

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        if self._refused:
            return
        self._first = self._first or data[: len(TLS)]
        super().data_received(data)
        if self._head >= 0:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._refuse(headers_too_large(MAX_LINE))

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of its path."""
        super().on_url(url)
        bounded(self.url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        bounded(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its body follows."""
        self._head = -1
        if self.parser.get_http_version() == "1.1" and not any(name == b"host" for name, _ in self.headers):
            raise malformed("it has no Host header")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser met what it does not understand, or a callback refused it."""
        met = sys.exception()
        cause = met.__context__ if met is not None else None
        if isinstance(cause, ApiError):
            self._refuse(cause)
        elif self._first == TLS:
            self._refuse(malformed(LIKE_TLS))
        else:
            self._refuse(malformed(str(met or msg)))

    def _refuse(self, error: ApiError) -> None:
        """The last answer of this connection."""
        self._head, self._refused = -1, True
        cycle = None if self.cycle is None or self.cycle.response_complete else self.cycle
        if cycle is not None and not cycle.more_body and not self.pipeline:
            cycle.keep_alive = False  # it comes behind a whole request, whose answer is the last then
            return
        if cycle is not None:  # to whom it is as if the client had hung up
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is not None and (cycle.response_started or self.pipeline):
            self.transport.close()
            return
        self.transport.write(_answer(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _answer(error: ApiError) -> bytes:
    body = error_text(error)
    length = (b"content-length", str(len(body)).encode())
    lines = [b": ".join(header) for header in (JSON, length, (b"connection", b"close"))]
    status = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()
    return b"\r\n".join([status, *lines, b"", body])


def bounded(*parts: bytes) -> None:
    """ApiError 431 for a line that is too long."""
    if sum(map(len, parts)) > MAX_LINE:
        raise headers_too_large(MAX_LINE)
