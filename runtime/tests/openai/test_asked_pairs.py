"""Scores of decoders that are asked: how a query and a document become one text, and what of it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.openai.requests.pooling import RerankRequest
from llmservice_runtime.openai.rerank import rerank
from llmservice_runtime.openai.state import Server
from llmservice_runtime.protocol.pooling import PoolInput, Question, Traits
from llmservice_runtime.wire.errors import ApiError


class Asked:
    """Scores nothing, and keeps what it was asked."""

    context_tokens = 60
    vocab_size = 258
    max_answers = 8
    traits = Traits(1, question=Question("Does ", " fit? ", " Say:"))

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.texts: list[str] = []

    def pair(self, query: Sequence[int], document: Sequence[int]) -> PoolInput:
        raise AssertionError

    async def pool(self, inputs: Sequence[PoolInput], batch: bool = False) -> list[list[float]]:
        self.texts += [self.tokenizer.decode(given.tokens) for given in inputs]
        return [[0.5] for _ in inputs]


async def test_a_document_is_cut_and_no_question(tokenizer: type[Any]) -> None:
    pooler = Asked(tokenizer())
    server = Server("demo", 60, EngineMetrics("demo"), task="Rerank")
    server.serve_pooled(pooler)  # type: ignore[arg-type]
    for most, shown in ((-1, "abc" * 9), (24, "abcabc"), (19, "a")):
        request = RerankRequest(query="it", documents=["abc" * 9], top_n=None, truncate_prompt_tokens=most)
        await rerank(server, request)
        assert pooler.texts.pop() == f"Does it fit? {shown} Say:"
    with pytest.raises(ApiError) as caught:
        await rerank(server, request.model_copy(update={"truncate_prompt_tokens": 18}))
    assert caught.value.param == "truncate_prompt_tokens" and not pooler.texts
