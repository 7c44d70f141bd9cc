"""What /v1/rerank and /v1/score answer: how well texts fit a query, 0 to 1."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic_core import to_json

from llmservice_runtime.openai.inputs import Bound, check_room, text_tokens
from llmservice_runtime.openai.requests.pooling import PoolingFields, RerankRequest, ScoreRequest
from llmservice_runtime.openai.state import Server
from llmservice_runtime.protocol.pooling import Pooler, PoolInput
from llmservice_runtime.wire.errors import bad_request

Named = tuple[str, str]
"""A text, and its place in the request."""


async def rerank(server: Server, request: RerankRequest, batch: bool = False) -> bytes:
    """The documents with their scores, most relevant first. `batch`: behind live requests."""
    model = server.check_model(request.model)
    pooler = server.ready_pooler("Rerank")
    documents = [(text, f"documents.{number}") for number, text in enumerate(request.documents)]
    pairs = await _pairs(pooler, request, [(request.query, "query")] * len(documents), documents)
    scores = [vector[0] for vector in await pooler.pool(pairs, batch=batch)]
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    results: list[dict[str, Any]] = []
    for number in order[: request.top_n or None]:
        shown = {"document": {"text": request.documents[number]}} if request.return_documents else {}
        results.append({"index": number, **shown, "relevance_score": scores[number]})
    head = {"id": f"rerank-{uuid.uuid4().hex}", "model": model}
    return to_json({**head, "results": results, "usage": _usage(pairs)})


async def score(server: Server, request: ScoreRequest, batch: bool = False) -> bytes:
    """The score of each pair, in order. `batch`: behind live requests."""
    model = server.check_model(request.model)
    pooler = server.ready_pooler("Rerank")
    firsts, seconds = _named(request.text_1, "text_1"), _named(request.text_2, "text_2")
    if len(firsts) not in (1, len(seconds)):
        said = f"`text_1` has {len(firsts)} texts and `text_2` {len(seconds)}: send one, or as many."
        raise bad_request(said, "text_1")
    pairs = await _pairs(pooler, request, firsts * (len(seconds) // len(firsts)), seconds)
    scores = [vector[0] for vector in await pooler.pool(pairs, batch=batch)]
    data = [{"index": number, "object": "score", "score": value} for number, value in enumerate(scores)]
    head = {"id": f"score-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": model}
    return to_json({**head, "data": data, "usage": _usage(pairs)})


def _named(texts: str | list[str], field: str) -> list[Named]:
    if isinstance(texts, str):
        return [(texts, field)]
    return [(text, f"{field}.{number}") for number, text in enumerate(texts)]


async def _pairs(
    pooler: Pooler, request: PoolingFields, firsts: Sequence[Named], seconds: Sequence[Named]
) -> list[PoolInput]:
    """Each text with its query. The second one is cut where the request wants that; a query never is."""
    bound = Bound(pooler.context_tokens, request.truncate_prompt_tokens)
    whole = Bound(pooler.context_tokens, None)
    joins = _Joins(pooler)
    known: dict[Named, list[int]] = {}
    pairs = []
    for first, second in zip(firsts, seconds, strict=True):
        if first not in known:
            known[first] = await text_tokens(pooler, first[0], whole, first[1], joins.special)
        pairs.append(await joins.pair(first[0], known[first], second, bound))
    return pairs


class _Joins:
    """How two texts become one input: by the tokens between them, or by the words of a question."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self._question = question = pooler.traits.question
        encode = partial(pooler.tokenizer.encode, add_special=False, parse_special=True)
        self._tail = encode(question.after) if question else []
        begins = encode(question.before + question.between) if question else pooler.pair([], []).tokens
        self.special = len(begins) + len(self._tail)
        """Tokens beside the two texts."""

    async def pair(self, query: str, tokens: list[int], document: Named, bound: Bound) -> PoolInput:
        """`tokens` are those of the query."""
        text, field = document
        if self._question is None:
            found = await text_tokens(self._pooler, text, bound, field, self.special + len(tokens))
            return self._pooler.pair(tokens, found)
        check_room(bound, field, self.special + len(tokens))
        head = self._question.before + query + self._question.between  # words and what is around them share tokens
        found = await text_tokens(self._pooler, text, bound, field, len(self._tail), head)
        return PoolInput([*found, *self._tail])


def _usage(pairs: Sequence[PoolInput]) -> dict[str, int]:
    tokens = sum(len(pair.tokens) for pair in pairs)
    return {"prompt_tokens": tokens, "total_tokens": tokens}
