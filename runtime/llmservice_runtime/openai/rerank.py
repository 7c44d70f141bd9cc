"""POST /v1/rerank and /v1/score: how well texts fit a query, 0 to 1."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from llmservice_runtime.openai.inputs import Bound, text_tokens
from llmservice_runtime.openai.requests.body import PROMPTS, received
from llmservice_runtime.openai.requests.pooling import MOST_TEXTS, PoolingFields, RerankRequest, ScoreRequest
from llmservice_runtime.openai.state import SERVER
from llmservice_runtime.protocol.pooling import Pooler, PoolInput
from llmservice_runtime.wire.errors import bad_request

Named = tuple[str, str]
"""A text, and its place in the request."""


async def rerank(http: web.Request) -> web.Response:
    """The documents with their scores, most relevant first."""
    server = http.app[SERVER]
    server.check_task("Rerank")
    request = await received(http, RerankRequest, server.context_tokens, MOST_TEXTS)
    with server.drain.admitted():
        model = server.check_model(request.model)
        pooler = server.ready_pooler("Rerank")
        documents = [(text, f"documents.{number}") for number, text in enumerate(request.documents)]
        pairs = await _pairs(pooler, request, [(request.query, "query")] * len(documents), documents)
        scores = [vector[0] for vector in await pooler.pool(pairs)]
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    results: list[dict[str, Any]] = []
    for number in order[: request.top_n or None]:
        shown = {"document": {"text": request.documents[number]}} if request.return_documents else {}
        results.append({"index": number, **shown, "relevance_score": scores[number]})
    return _respond({"id": f"rerank-{uuid.uuid4().hex}", "model": model, "results": results, "usage": _usage(pairs)})


async def score(http: web.Request) -> web.Response:
    """The score of each pair, in order."""
    server = http.app[SERVER]
    server.check_task("Rerank")
    request = await received(http, ScoreRequest, server.context_tokens, PROMPTS, apart=False)
    with server.drain.admitted():
        model = server.check_model(request.model)
        pooler = server.ready_pooler("Rerank")
        firsts, seconds = _named(request.text_1, "text_1"), _named(request.text_2, "text_2")
        if len(firsts) not in (1, len(seconds)):
            said = f"`text_1` has {len(firsts)} texts and `text_2` {len(seconds)}: send one, or as many."
            raise bad_request(said, "text_1")
        pairs = await _pairs(pooler, request, firsts * (len(seconds) // len(firsts)), seconds)
        scores = [vector[0] for vector in await pooler.pool(pairs)]
    data = [{"index": number, "object": "score", "score": value} for number, value in enumerate(scores)]
    head = {"id": f"score-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": model}
    return _respond({**head, "data": data, "usage": _usage(pairs)})


def _named(texts: str | list[str], field: str) -> list[Named]:
    if isinstance(texts, str):
        return [(texts, field)]
    return [(text, f"{field}.{number}") for number, text in enumerate(texts)]


async def _pairs(
    pooler: Pooler, request: PoolingFields, firsts: Sequence[Named], seconds: Sequence[Named]
) -> list[PoolInput]:
    """Each text with its query. The second one is cut where the request wants that; a query never is."""
    bound = Bound(pooler.context_tokens, request.truncate_prompt_tokens)
    whole = Bound(bound.most, None)
    special = len(pooler.pair([], []).tokens)
    known: dict[Named, list[int]] = {}
    pairs = []
    for first, second in zip(firsts, seconds, strict=True):
        if first not in known:
            known[first] = await text_tokens(pooler, first[0], whole, first[1], special)
        query = known[first]
        document = await text_tokens(pooler, second[0], bound, second[1], special + len(query))
        pairs.append(pooler.pair(query, document))
    return pairs


def _usage(pairs: Sequence[PoolInput]) -> dict[str, int]:
    tokens = sum(len(pair.tokens) for pair in pairs)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _respond(body: dict[str, Any]) -> web.Response:
    return web.Response(body=to_json(body), content_type="application/json")
