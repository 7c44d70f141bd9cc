"""Errors as Anthropic's clients read them."""

from __future__ import annotations

from llmservice_gateway.dialects.pieces import Json
from llmservice_runtime.wire.errors import ApiError

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Their types, by status. Others below 500 are the request's, the rest this server's."""


def error_of(error: ApiError) -> Json:
    """The body. `details` has the code and the field, as all errors here have them."""
    kind = KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    details = {"error_code": error.code, "param": error.param}
    return {"type": "error", "error": {"type": kind, "message": error.message, "details": details}}
