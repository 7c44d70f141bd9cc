"""What /v1/embeddings answers."""

from __future__ import annotations

import asyncio
import base64
import math
from array import array
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from llmservice_runtime.openai.digits import digits
from llmservice_runtime.openai.inputs import Bound, frame_of, given_tokens, text_tokens
from llmservice_runtime.openai.requests.pooling import EmbeddingRequest
from llmservice_runtime.openai.state import Server
from llmservice_runtime.protocol.pooling import Pooler, PoolInput, Traits, Vector
from llmservice_runtime.wire.errors import bad_request, cut

INLINE_NUMBERS = 50_000
"""More are written off the event loop: these take some milliseconds."""

TURN = 32
"""Texts that are tokenized in one go: some milliseconds."""


async def embeddings(server: Server, request: EmbeddingRequest, batch: bool = False) -> bytes:
    """A vector of each text, in order. `batch`: behind live requests."""
    model = server.check_model(request.model)
    pooler = server.ready_pooler("Embedding")
    _check(request, pooler.traits, server)
    inputs = await _inputs(request, pooler)
    vectors = await pooler.pool(inputs, batch=batch)
    tokens = sum(len(given.tokens) for given in inputs)
    answer = request, pooler.traits, vectors, model, tokens
    if sum(map(len, vectors)) <= INLINE_NUMBERS:
        return _answer(*answer)
    return await asyncio.to_thread(_answer, *answer)


def _check(request: EmbeddingRequest, traits: Traits, server: Server) -> None:
    """ApiError 400 for dimensions and prompts that the model does not have."""
    if request.dimensions and not traits.allows(request.dimensions):
        if traits.any_shorter:
            others = f" or fewer (at most {traits.dimensions})"
        else:
            others = "".join(f", {number}" for number in traits.shorter)
        had = f"vectors of {server.model_name} have {traits.dimensions}{others}"
        raise bad_request(f"`dimensions` is {cut(str(request.dimensions))}; {had}.", "dimensions")
    if request.prompt_name and request.prompt_name not in traits.prompts:
        known = ", ".join(sorted(traits.prompts)) or "none"
        said = f"`prompt_name` is `{cut(request.prompt_name)}`; prompts of {server.model_name}: {known}."
        raise bad_request(said, "prompt_name")


async def _inputs(request: EmbeddingRequest, pooler: Pooler) -> list[PoolInput]:
    """Tokens of every text. A text gets the model's prompt and special tokens; token ids are taken as they are."""
    given = request.input
    several = isinstance(given, list) and not isinstance(given[0], int)
    items: Sequence[Any] = given if several else [given]
    bound = Bound(pooler.context_tokens, request.truncate_prompt_tokens)
    frame = frame_of(pooler.tokenizer)
    prompt = prompt_of(request, pooler.traits)
    inputs = []
    for number, item in enumerate(items):
        if number % TURN == TURN - 1:
            await asyncio.sleep(0)  # others' turn
        field = f"input.{number}" if several else "input"
        if isinstance(item, str):
            tokens = await text_tokens(pooler, item, bound, field, frame.size, prompt)
            inputs.append(PoolInput([*frame.before, *tokens, *frame.after]))
        else:
            inputs.append(PoolInput(given_tokens(pooler, item, bound, field)))
    return inputs


def prompt_of(request: EmbeddingRequest, traits: Traits) -> str:
    """What the model wants before a text: by the name in the request, else its default."""
    name = traits.default_prompt if request.prompt_name is None else request.prompt_name
    return traits.prompts.get(name, "")


def _answer(request: EmbeddingRequest, traits: Traits, vectors: Sequence[Vector], model: str, tokens: int) -> bytes:
    cuts = request.dimensions is not None and request.dimensions < traits.dimensions
    if cuts:
        vectors = [shorter(vector, request.dimensions or 0, traits.normalized) for vector in vectors]
    as_text = request.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if as_text else digits(vector),
        }
        for index, vector in enumerate(vectors)
    ]
    return to_json(
        {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    )


def shorter(vector: Vector, dimensions: int, normalized: bool) -> Vector:
    """Its first numbers, of length 1 again where it was."""
    kept = vector[:dimensions]
    length = math.sqrt(sum(number * number for number in kept)) if normalized else 0.0
    return array("f", (number / length for number in kept)) if length else kept
