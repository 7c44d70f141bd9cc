"""What a body asks for: of which model, and how much. `python -m llmservice_gateway.naming` is the worker that reads
large ones.

Here that would hold the event loop, and every stream, for some tenths of a second.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn

from llmservice_gateway.prefix import of_adapter, prefix_key
from llmservice_runtime.openai.worker import KilledError, LostError, Worker, serve_apart
from llmservice_runtime.wire.body import NumberError, bound_parts, finite
from llmservice_runtime.wire.errors import ApiError, bad_request, unavailable

INLINE_BYTES = 256 << 10
SECONDS = 20.0
MEMORY = 512 << 20
"""Bytes for the worker: 32 MiB of JSON with a character beyond U+FFFF are 128 MiB of text, and its parts as much."""
RETRY_SECONDS = 2
MOST = 1_000_000
"""Tokens or answers that a field may count."""
PICTURE_BYTES = 2048
"""What a picture takes of a prompt, in bytes of text: some 500 tokens."""
USERS = ("safety_identifier", "user")
LONGEST_USER = 128
WITH_USAGE = '{"include_usage": true}'
MOST_OPTIONS = 16
"""Of a stream; no engine has as many."""

_worker = Worker("llmservice_gateway.naming")
_thread = ThreadPoolExecutor(1, "naming")


@dataclass(frozen=True, slots=True)
class Asked:
    """What routing wants to know of a request. A field that a replica will refuse counts as not said."""

    model: str = ""
    user: str = ""
    """Whom it is for, as it says itself (`safety_identifier`, `user`): those who share a key take turns by it."""
    key: int = 0
    """Of its prompt's beginning (prefix.prefix_key)."""
    body_bytes: int = 0
    """Of its text; a picture counts for PICTURE_BYTES, however large its file is."""
    most_tokens: int = 0
    """Of one answer; 0 = not said."""
    sequences: int = 1
    """Answers that are computed side by side; 0 = none, nothing is generated."""
    streams: bool = False
    adapter: str = ""
    """Of the service, whatever name it was asked for by."""
    stream_options: str = ""
    """Of a stream that does not ask for its usage: what it would have written to ask for it, as JSON. Else empty."""


async def read_asked(body: bytes) -> Asked:
    """`asked_of`, for a large body in another process; ApiError 503 when others end that."""
    if len(body) <= INLINE_BYTES:
        return asked_of(body)
    return await asyncio.get_running_loop().run_in_executor(_thread, _apart, body)


def _apart(body: bytes) -> Asked:
    try:
        answer, _ = _worker.ask_apart({}, body, SECONDS)
    except KilledError as error:
        message = f"The process that reads large bodies {error} twice; another one takes its place. Ask again."
        raise unavailable(message, "worker_lost", RETRY_SECONDS) from error
    except LostError as error:
        raise ApiError(413, f"The body can't be read: that {error}.", code="request_too_large") from error
    if "model" in answer:
        return Asked(**answer)
    raise ApiError(answer.pop("status"), answer.pop("message"), **answer)


def asked_of(body: bytes) -> Asked:
    """What a request body asks for; ApiError 400 when it is no JSON object."""
    bound_parts(body)
    try:
        return asked_in(fields_of(body), len(body))
    except RecursionError:
        raise bad_request("The body's lists and objects are too deep.", code="invalid_json") from None


def fields_of(body: bytes) -> dict[str, Any]:
    """The fields of a body; ApiError 400 when it is no JSON object."""
    try:
        text = body.decode().strip(_BLANKS)
        fields, end = _DECODER.raw_decode(text)
        if end < len(text):
            raise ValueError
    except NumberError as error:
        raise bad_request(f"The body has a number that can't be: {error}.", code="invalid_json") from None
    except (ValueError, RecursionError):
        raise bad_request("The body is not JSON in UTF-8.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    return fields


def asked_in(fields: dict[str, Any], size: int) -> Asked:
    """What the fields of a body of `size` bytes ask for; RecursionError for very deep ones."""
    return Asked(
        model=model if isinstance(model := fields.get("model"), str) else "",
        user=_text(fields.get(USERS[0])) or _text(fields.get(USERS[1])),
        key=prefix_key(fields),
        body_bytes=size - _beyond(fields.get("messages")) if size > PICTURE_BYTES else size,
        most_tokens=_count(fields.get("max_completion_tokens")) or _count(fields.get("max_tokens")),
        sequences=max(1, _count(fields.get("n"))) * _prompts(fields.get("prompt")),
        streams=fields.get("stream") is True,
        stream_options=_with_usage(fields.get("stream_options")) if fields.get("stream") is True else "",
    )


def _beyond(messages: Any) -> int:
    """Bytes of pictures that say nothing of how long a prompt is."""
    beyond = 0
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            given = part.get("image_url") if isinstance(part, dict) else None
            url = given.get("url") if isinstance(given, dict) else given
            if isinstance(url, str) and url[:5].lower() == "data:":
                beyond += max(0, len(url) - PICTURE_BYTES)
    return beyond


def _with_usage(options: Any) -> str:
    """`Asked.stream_options`. What a replica will refuse stays as it is, for it to say why."""
    if options is None:
        return WITH_USAGE
    if not isinstance(options, dict) or not all(isinstance(value, bool) for value in options.values()):
        return ""
    if options.get("include_usage") or len(options) > MOST_OPTIONS:
        return ""
    return json.dumps({**options, "include_usage": True})


def named(asked: Asked) -> str:
    """The model that a body names; ApiError 400 when there is none."""
    if not asked.model:
        raise bad_request("`model` must name a service; GET /v1/models lists them.", "model", "model_required")
    if not asked.model.isascii() and any("\ud800" <= character <= "\udfff" for character in asked.model):
        raise bad_request("`model` has half of a surrogate pair, which is no character.", "model", "invalid_json")
    return asked.model


def with_adapter(asked: Asked, adapter: str) -> Asked:
    """The same of an adapter; empty = of the model itself."""
    return replace(asked, adapter=adapter, key=of_adapter(asked.key, adapter)) if adapter else asked


def _text(value: Any) -> str:
    return value[:LONGEST_USER] if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST else 0


def _prompts(prompt: Any) -> int:
    """/v1/completions takes a list of prompts, and one as a list of tokens."""
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    return len(prompt) if several else 1


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_BLANKS = " \t\n\r"
_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=finite)


def _answer(_: Any, body: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        return asdict(asked_of(body)), b""
    except ApiError as error:
        return {"status": error.status, "message": error.message, "code": error.code, "param": error.param}, b""


if __name__ == "__main__":
    serve_apart(_answer, MEMORY)
