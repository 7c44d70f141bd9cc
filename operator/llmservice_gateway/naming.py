"""Which model a body asks for. `python -m llmservice_gateway.naming` is the worker that reads large ones.

Here that would hold the event loop, and every stream, for some tenths of a second.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from llmservice_runtime.openai.worker import KilledError, LostError, Worker, serve_apart
from llmservice_runtime.wire.body import bound_parts
from llmservice_runtime.wire.errors import ApiError, bad_request, unavailable

INLINE_BYTES = 256 << 10
SECONDS = 20.0
MEMORY = 512 << 20
"""Bytes for the worker: 32 MiB of JSON with a character beyond U+FFFF are 128 MiB of text, and its parts as much."""
RETRY_SECONDS = 2

_worker = Worker("llmservice_gateway.naming")
_thread = ThreadPoolExecutor(1, "naming")


async def asked_model(body: bytes) -> str:
    """`model_of`, for a large body in another process; ApiError 503 when others end that."""
    if len(body) <= INLINE_BYTES:
        return model_of(body)
    return await asyncio.get_running_loop().run_in_executor(_thread, _asked, body)


def _asked(body: bytes) -> str:
    try:
        answer, _ = _worker.ask_apart({}, body, SECONDS)
    except KilledError as error:
        message = f"The process that reads large bodies {error} twice; another one takes its place. Ask again."
        raise unavailable(message, "worker_lost", RETRY_SECONDS) from error
    except LostError as error:
        raise ApiError(413, f"The body can't be read: that {error}.", code="request_too_large") from error
    if "model" in answer:
        return str(answer["model"])
    raise ApiError(answer.pop("status"), answer.pop("message"), **answer)


def model_of(body: bytes) -> str:
    """The `model` of a request body; ApiError 400 when there is none."""
    bound_parts(body)
    try:
        fields = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise bad_request("The body is not JSON in UTF-8.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request("`model` must name a service; GET /v1/models lists them.", "model", "model_required")
    if any("\ud800" <= character <= "\udfff" for character in model):
        raise bad_request("`model` has half of a surrogate pair, which is no character.", "model", "invalid_json")
    return model


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _answer(_: Any, body: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        return {"model": model_of(body)}, b""
    except ApiError as error:
        return {"status": error.status, "message": error.message, "code": error.code, "param": error.param}, b""


if __name__ == "__main__":
    serve_apart(_answer, MEMORY)
