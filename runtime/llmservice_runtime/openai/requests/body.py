"""From a request on the wire to its model: bounded by what the context could hold, and read off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from llmservice_runtime.openai import large
from llmservice_runtime.openai.requests.apart import put_together
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.completion import CompletionRequest, DetokenizeRequest, TokenizeRequest
from llmservice_runtime.openai.requests.fields import Strict
from llmservice_runtime.openai.requests.parse import exceeded, parse
from llmservice_runtime.openai.requests.pooling import EmbeddingRequest, RerankRequest
from llmservice_runtime.wire.body import Incoming, read_body
from llmservice_runtime.wire.errors import MAX_BODY_BYTES, ApiError, body_too_large

M = TypeVar("M", bound=Strict)

FREE_BYTES = 1 << 20
"""For schemas, metadata and the names of fields, whatever the context."""
TOKEN_BYTES = 64
"""Of JSON a token may take. Usual are 4 to 12, escapes of every character included."""
FREE_VALUES = 100_000
TOKEN_VALUES = 8
"""Values of JSON a token may take: no body is built into millions of objects before it is refused."""
PROMPTS = 16
"""Contexts of text in a request for completions: 128 prompts of usual JSON, all as long as can be."""
INLINE_BYTES = 64 << 10
"""Smaller bodies are read in less time than the way to a thread takes."""

APART_BYTES = 256 << 10
"""Larger ones are read in a process of their own: here that would hold the interpreter for more than some 10 ms."""
MODELS: Mapping[str, type[Strict]] = {
    model.__name__: model
    for model in (
        ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest, EmbeddingRequest, RerankRequest
    )
}  # fmt: skip
"""What a request for the other process is named by."""

_thread = ThreadPoolExecutor(1, "parse")


async def received(
    http: Incoming,
    model: type[M],
    context_tokens: int,
    prompts: int = 1,
    unsupported: Mapping[str, str] | None = None,
    apart: bool = True,
    pictures: bool = False,
) -> M:
    """The validated body. ApiError 400 for one that is larger than `prompts` contexts of text, before it is read.

    `unsupported` are the fields that the engine can't honour, with what to use instead. `apart` = a large one is read
    in another process, and its texts stay there. `pictures` = its messages may have some, which count for themselves.
    """
    text = min(MAX_BODY_BYTES, FREE_BYTES + prompts * context_tokens * TOKEN_BYTES)
    most = MAX_BODY_BYTES if pictures else text
    beside = text if pictures else None
    if http.content_length is not None and http.content_length > most:
        raise _too_large(http.content_length, most, context_tokens)
    body = await read_body(http, MAX_BODY_BYTES, body_too_large)
    if len(body) > most:
        raise _too_large(len(body), most, context_tokens)
    if len(body) <= INLINE_BYTES:
        return parse(model, body, context_tokens, unsupported, beside)
    run = asyncio.get_running_loop().run_in_executor
    if apart and len(body) > APART_BYTES:
        question = {"read": model.__name__, "context_tokens": context_tokens, "prompts": prompts, "pictures": beside}
        return await run(_thread, _apart, model, question | {"unsupported": dict(unsupported or {})}, body)
    bound_values(body, context_tokens, prompts)
    return await run(_thread, parse, model, body, context_tokens, unsupported, beside)


def _apart(model: type[M], question: Mapping[str, Any], body: bytes) -> M:
    return put_together(model, *large.read(question, body))


def bound_values(body: bytes, context_tokens: int, prompts: int) -> None:
    """ApiError 400 for a body of more values than `prompts` contexts of text can have."""
    values = sum(map(body.count, (b"[", b"{", b",")))
    if values > FREE_VALUES + prompts * context_tokens * TOKEN_VALUES:
        raise exceeded(context_tokens, f"about {values} values, more than a request for so many can have")


def _too_large(size: int, most: int, context_tokens: int) -> ApiError:
    if size > MAX_BODY_BYTES:
        return body_too_large()
    return exceeded(context_tokens, f"{size} bytes, more than the {most} that a request for so many can have")
