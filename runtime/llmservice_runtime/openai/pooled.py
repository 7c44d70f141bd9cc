"""The endpoints of models that make vectors or scores, as data: whatever HTTP is below them asks these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from llmservice_runtime.openai.embeddings import embeddings
from llmservice_runtime.openai.requests.body import PROMPTS, received
from llmservice_runtime.openai.requests.pooling import (
    MOST_TEXTS,
    EmbeddingRequest,
    PoolingFields,
    RerankRequest,
    ScoreRequest,
)
from llmservice_runtime.openai.rerank import rerank, score
from llmservice_runtime.openai.state import SERVER, Server
from llmservice_runtime.wire.body import Incoming
from llmservice_runtime.wire.priority import is_batch


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A POST of models of one task."""

    task: str
    request: type[PoolingFields]
    contexts: int
    """Of text that a body may have."""
    answer: Callable[[Server, Any, bool], Awaitable[bytes]]
    """server, request, whether it goes behind live ones -> JSON; ApiError for what is wrong with it."""
    apart: bool = True
    """Whether a large body is read in a process of its own, where the server has one."""

    async def read(self, server: Server, incoming: Incoming, apart: bool = True) -> PoolingFields:
        """The request; ApiError 400 where the model is for another task, before the body is read."""
        server.check_task(self.task)
        return await received(incoming, self.request, server.context_tokens, self.contexts, apart=apart and self.apart)


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/embeddings": Endpoint("Embedding", EmbeddingRequest, MOST_TEXTS, embeddings),
    "/v1/rerank": Endpoint("Rerank", RerankRequest, MOST_TEXTS, rerank),
    "/v1/score": Endpoint("Rerank", ScoreRequest, PROMPTS, score, apart=False),
}


def handler(endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
    """It for aiohttp."""

    async def handle(http: web.Request) -> web.Response:
        server = http.app[SERVER]
        batch = is_batch(http.headers)
        request = await endpoint.read(server, http)
        with server.drain.admitted():
            body = await endpoint.answer(server, request, batch)
        return web.Response(body=body, content_type="application/json")

    return handle
