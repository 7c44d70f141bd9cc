"""vLLM's errors as ours. Pure: what clients read is the same whichever engine refused."""

from __future__ import annotations

import json
import re
from typing import Any

from llmservice_runtime.wire.errors import ApiError, bad_request, cut, internal, queue_full, unavailable

RETRY_SECONDS = 1
"""A full queue moves on with every step."""
_FULL = re.compile(r"cannot accept new requests|backlog limit")
_CONTEXT = re.compile(
    r"maximum context length|longer than the maximum model length|max_model_len",
    re.IGNORECASE,
)
_GRAMMAR = re.compile(r"grammar|structured.?output|json.?schema|regex|guidance", re.IGNORECASE)
_TEMPLATE = re.compile(r"chat template|jinja|template", re.IGNORECASE)


def refusal(status: int, body: bytes, path: str, held: str = "response_format") -> ApiError:
    """What vLLM answered, as an ApiError of ours; anything that is not its JSON is taken as text.

    `held` is the field that holds the answer to a grammar.
    """
    found = _error(body)
    message, param = str(found.get("message") or "The request was refused."), found.get("param")
    field = str(param).removeprefix("body.") if param else None
    match status:
        case 404 if field == "model" or ("model" in message and "does not exist" in message):
            return ApiError(404, message, code="model_not_found", param="model")
        case 404:
            shown = cut(path)
            return ApiError(
                404, f"No such path: {shown}. The API starts at /v1 (docs/api.md lists it).", code="not_found"
            )
        case 405:
            return ApiError(405, f"This method is not allowed on {cut(path)}.", code="method_not_allowed")
        case 429 | 503:
            return overloaded(message)
        case 501:
            return ApiError(400, message, code="unsupported_parameter", param=field)
        case _ if status >= 500:
            return internal("This server failed to answer; its log says why.")
    if _CONTEXT.search(message):
        return bad_request(message, "messages" if "chat" in path else "prompt", "context_length_exceeded")
    if _GRAMMAR.search(message):
        named = field or held
        return bad_request(f"`{named}` can't be honoured: {message}", named, "invalid_grammar")
    if _TEMPLATE.search(message):
        return bad_request(message, "messages", "template_error")
    return bad_request(message, field)


def overloaded(message: str) -> ApiError:
    """vLLM says 503 when its queue is full, and that it can't serve when it has failed."""
    if _FULL.search(message):
        return queue_full("The queue of this replica is full; retry.", RETRY_SECONDS)
    return unavailable("Generation was stopped before its end.", "aborted", RETRY_SECONDS)


def stream_failure(event: bytes) -> ApiError:
    """An error event of vLLM's in a stream."""
    said = _error(event.removeprefix(b"data: ").strip())
    status = said.get("code")
    return refusal(status if isinstance(status, int) else 500, json.dumps({"error": said}).encode(), "")


def _error(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {"message": body.decode(errors="replace")[:500]}
    error = found.get("error", found) if isinstance(found, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}
