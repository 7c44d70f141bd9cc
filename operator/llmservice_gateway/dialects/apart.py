"""Translating bodies: small ones here, large ones by `python -m llmservice_gateway.dialects.apart`, a worker.

Here they would hold the event loop, and every stream, for some tenths of a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from llmservice_gateway.dialects.dialect import TOKENIZE, Answering, Dialect, text_of
from llmservice_gateway.dialects.parts import TooMuchError
from llmservice_gateway.dialects.pieces import Chunks, Json
from llmservice_gateway.dialects.registry import BY_NAME
from llmservice_gateway.naming import Asked, asked_in, fields_of
from llmservice_runtime.openai.worker import KilledError, LostError, Worker, serve_apart
from llmservice_runtime.wire.body import MAX_PARTS, bound_parts
from llmservice_runtime.wire.errors import ApiError, bad_request, unavailable

INLINE_BYTES = 256 << 10
SECONDS = 20.0
MEMORY = 1 << 30
"""Bytes for the worker: 32 MiB of JSON with a character beyond U+FFFF are 128 MiB of text, its parts as much, and what
is made of them again."""
RETRY_SECONDS = 2
MOST_ANSWER = 32 << 20
"""Bytes of an answer that is translated as a whole."""
MOST_PARTS = 8 * MAX_PARTS
"""Of it: a prompt of a million tokens with what is told of each. Nobody waits for who reads so many."""

_worker = Worker("llmservice_gateway.dialects.apart")
_thread = ThreadPoolExecutor(1, "dialects")


@dataclass(frozen=True, slots=True)
class Translated:
    """A request as a replica gets it; `echo` for whoever tells its answer."""

    asked: Asked
    body: bytes
    echo: Json
    unbounded: bool
    path: str
    context_tokens: int = 0
    context_field: str = ""
    spare: Sequence[str] = ()


async def translated(dialect: Dialect, body: bytes) -> Translated:
    """`translate`, for a large body in another process. ApiError 400, 413; 503 when others end that process."""
    if len(body) <= INLINE_BYTES:
        return translate(dialect, body)
    told, data = await _apart({"dialect": dialect.name}, body, _unread)
    return Translated(Asked(**told.pop("asked")), data, **told)


async def retold(dialect: Dialect, answering: Answering, answer: bytes) -> bytes:
    """`retell`, likewise. ApiError 502 for what is no answer of chat's; TooMuchError for more than MOST_ANSWER."""
    if len(answer) <= INLINE_BYTES:
        return retell(dialect, answering, answer)
    if len(answer) > MOST_ANSWER:
        raise TooMuchError
    _, data = await _apart({"dialect": dialect.name, "answering": asdict(answering)}, answer, _no_answer)
    return data


def translate(dialect: Dialect, body: bytes) -> Translated:
    """A request's body as one of chat. ApiError 400."""
    bound_parts(body)
    try:
        found = dialect.translate(fields_of(body))
        data = text_of(found.body).encode()
        asked = asked_in(found.body, len(data))
    except RecursionError:
        raise bad_request("The body's lists and objects are too deep.", code="invalid_json") from None
    path = found.path or dialect.path
    if path == TOKENIZE:  # which computes nothing
        asked = replace(asked, sequences=0)
    return Translated(
        asked, data, found.echo, found.unbounded, path, found.context_tokens, found.context_field, found.spare
    )


def retell(dialect: Dialect, answering: Answering, answer: bytes) -> bytes:
    """A whole answer of a replica as the dialect has it. ApiError 502."""
    try:
        bound_parts(answer, MOST_PARTS)
        said = json.loads(answer)
        if not isinstance(said, dict):
            raise ValueError
        return text_of(_retold(dialect, answering, said)).encode()
    except (ApiError, ValueError, LookupError, TypeError, RecursionError, TooMuchError):
        raise _no_answer("it is none of the engine's protocol") from None


def _retold(dialect: Dialect, answering: Answering, said: Json) -> Any:
    if dialect.teller is not None and isinstance(said.get("choices"), list):
        return dialect.teller(answering).whole(Chunks().read(said))
    if dialect.remade is None:
        raise ValueError
    return dialect.remade(answering, said)


def _no_answer(why: str) -> ApiError:
    message = f"The replica's answer can't be told in this protocol: {why}."
    return ApiError(502, message, code="replica_error", kind="server_error")


def _unread(why: str) -> ApiError:
    return ApiError(413, f"The body can't be read: that {why}.", code="request_too_large")


async def _apart(question: Json, data: bytes, lost: Callable[[str], ApiError]) -> tuple[Json, bytes]:
    return await asyncio.get_running_loop().run_in_executor(_thread, _ask, question, data, lost)


def _ask(question: Json, data: bytes, lost: Callable[[str], ApiError]) -> tuple[Json, bytes]:
    try:
        told, found = _worker.ask_apart(question, data, SECONDS)
    except KilledError as error:
        message = f"The process that translates large bodies {error} twice; another one takes its place. Ask again."
        raise unavailable(message, "worker_lost", RETRY_SECONDS) from error
    except LostError as error:
        raise lost(str(error)) from error
    if "status" in told:
        raise ApiError(told.pop("status"), told.pop("message"), **told)
    return told, found


def _answer(question: Any, data: bytes) -> tuple[Json, bytes]:
    """What the worker does."""
    dialect = BY_NAME[question["dialect"]]
    try:
        if "answering" in question:
            return {}, retell(dialect, Answering(**question["answering"]), data)
        found = asdict(translate(dialect, data))
        body: bytes = found.pop("body")
        return found, body
    except ApiError as error:
        shown = {"status": error.status, "message": error.message, "code": error.code, "param": error.param}
        return {**shown, "kind": error.kind}, b""


if __name__ == "__main__":
    serve_apart(_answer, MEMORY)
