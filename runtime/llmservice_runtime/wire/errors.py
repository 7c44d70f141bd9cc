"""One error body for every answer that is not 2xx, and the errors that handlers raise to get it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

MAX_BODY_BYTES = 32 << 20
"""Of one request, at the gateway as at an engine."""
MAX_RETRY_AFTER = 120
"""openai-python honours Retry-After up to this many seconds and falls back to its own backoff beyond."""


class ApiError(Exception):
    """An answer with an error status. `message` is for a person; `code` for programs; `param` names the field."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind
        self.headers = dict(headers or {})


def error_body(error: ApiError) -> dict[str, object]:
    """`{"error": {message, type, code, param}}`: the same on every engine and route."""
    return {"error": {"message": error.message, "type": error.kind, "code": error.code, "param": error.param}}


def error_text(error: ApiError) -> bytes:
    """`error_body` as it is sent."""
    text = json.dumps(error_body(error), ensure_ascii=False)
    return text.encode(errors="replace")  # a message may quote half of a surrogate pair


def error_response(error: ApiError) -> web.Response:
    """The HTTP answer to an ApiError."""
    return web.Response(
        status=error.status,
        body=error_text(error),
        content_type="application/json",
        charset="utf-8",
        headers=error.headers,
    )


def cut(text: str, most: int = 80) -> str:
    """What a client wrote, for a message: no longer than so many characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """400: the request can never succeed as it is."""
    return ApiError(400, message, code=code, param=param)


def unsupported(param: str, reason: str) -> ApiError:
    """400: a field that this server or model can't honour; `reason` says why and what to use instead."""
    return ApiError(400, f"`{param}` is not supported: {reason}", code="unsupported_parameter", param=param)


def body_too_large(limit: int = MAX_BODY_BYTES) -> ApiError:
    """413; `limit` in bytes."""
    size = f"{limit >> 20} MiB" if limit % (1 << 20) == 0 else f"{limit} bytes"
    return ApiError(413, f"The body is larger than {size}.", code="request_too_large")


def headers_too_large(limit: int) -> ApiError:
    """431; `limit` in bytes, of one line."""
    said = f"The request line or a header is longer than {limit} bytes. Send long values in the body."
    return ApiError(431, said, code="headers_too_large")


def malformed(reason: str, status: int = 400) -> ApiError:
    """400: bytes that are no HTTP request."""
    return ApiError(status, f"This is no HTTP request: {reason}.", code="malformed_request")


def queue_full(message: str, retry_after: int) -> ApiError:
    """429: the bounded queue is full; a retry may succeed."""
    return ApiError(429, message, code="queue_full", kind="rate_limit_error", headers=retry_headers(retry_after))


def unavailable(message: str, code: str, retry_after: int) -> ApiError:
    """503: loading, draining or broken; another replica or a later try may succeed."""
    return ApiError(503, message, code=code, kind="service_unavailable_error", headers=retry_headers(retry_after))


def internal(message: str) -> ApiError:
    """500: a fault of this server."""
    return ApiError(500, message, code="internal_error", kind="server_error", headers={"x-should-retry": "false"})


def retry_headers(seconds: int) -> dict[str, str]:
    """Retry-After within the bound that clients honour, and the explicit permission to retry."""
    return {"Retry-After": str(max(1, min(seconds, MAX_RETRY_AFTER))), "x-should-retry": "true"}
