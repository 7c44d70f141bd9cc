"""/v1/rerank and /v1/score: what each engine thinks of pairs is what Transformers thinks of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from llmservice_planning.plan import Refusal
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.openai.requests.table import Where

from .conftest import Models, planned
from .field_probes import fields_show, nothing_changes

pytestmark = pytest.mark.engine
Ask = Callable[..., Any]


def logit(score: float) -> float:
    assert 0 < score < 1
    return math.log(score / (1 - score))


KINDS = ("bert-cross", "qwen3-asked", "xlmr-cross")
"""Encoders, and a decoder that is asked for yes or no."""


def kinds(engine: EngineType) -> tuple[str, ...]:
    """llama.cpp leaves token types out, and says so before."""
    return tuple(kind for kind in KINDS if engine is not EngineType.LLAMA_CPP or kind != "bert-cross")


def test_scores_are_those_of_transformers(engine: EngineType, ask: Ask, models: Models) -> None:
    for kind in kinds(engine):
        said = models.references[kind]
        right = list(map(logit, said["scores"]))
        assert max(right) - min(right) > 3, "scores that are all the same prove nothing"
        first, second = map(list, zip(*said["pairs"], strict=True))
        answer = ask(kind, "/v1/score", text_1=first, text_2=second)
        assert [logit(each["score"]) for each in answer["data"]] == pytest.approx(right, abs=0.15)
        swapped = ask(kind, "/v1/score", text_1=second, text_2=first)
        off = [abs(logit(each["score"]) - is_right) for each, is_right in zip(swapped["data"], right, strict=True)]
        assert max(off) > 0.5, "pairs the other way round would pass"


def test_the_most_relevant_comes_first(engine: EngineType, ask: Ask, models: Models) -> None:
    for kind in kinds(engine):
        pairs = zip(models.references[kind]["pairs"], models.references[kind]["scores"], strict=True)
        of_first = [
            (document, score) for (query, document), score in pairs if query == models.references[kind]["pairs"][0][0]
        ]
        documents = [document for document, _ in of_first]
        query = models.references[kind]["pairs"][0][0]
        answer = ask(kind, "/rerank", query=query, documents=documents)
        order = sorted(range(len(documents)), key=lambda number: -of_first[number][1])
        assert [each["index"] for each in answer["results"]] == order
        assert [each["document"]["text"] for each in answer["results"]] == [documents[number] for number in order]
        assert [logit(each["relevance_score"]) for each in answer["results"]] == pytest.approx(
            [logit(of_first[number][1]) for number in order], abs=0.15
        )
        assert answer["usage"]["total_tokens"] > 0
        two = ask(kind, "/v1/rerank", query=query, documents=[{"text": text} for text in documents], top_n=2,
                  return_documents=False)  # fmt: skip
        assert [each["index"] for each in two["results"]] == order[:2]
        assert all(each.keys() == {"index", "relevance_score"} for each in two["results"])


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("/v1/rerank", {"query": "", "documents": ["a"]}, "query", "empty"),
    ("/v1/rerank", {"query": "a", "documents": []}, "documents", ""),
    ("/v1/rerank", {"query": "a", "documents": ["b", ""]}, "documents.1", "empty"),
    ("/v1/rerank", {"query": "a", "documents": ["b", "cat " * 300]}, "documents.1", "truncate_prompt_tokens"),
    ("/v1/rerank", {"query": "a", "documents": [{"image": "x"}]}, "documents", ""),
    ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "text_1", "as many"),
    ("/v1/embeddings", {"input": "a"}, "model", "/v1/rerank"),
]


@pytest.mark.parametrize(("path", "fields", "param", "words"), BAD)
def test_what_is_wrong_is_named(ask: Ask, path: str, fields: dict[str, Any], param: str, words: str) -> None:
    error = ask("xlmr-cross", path, 400, **fields)
    assert error["param"].startswith(param), error
    assert words in error["message"], error


def test_a_longer_document_is_cut_where_that_is_asked_for(ask: Ask) -> None:
    fields = {"query": "red cat", "documents": ["cat " * 300], "truncate_prompt_tokens": -1}
    for kind in ("xlmr-cross", "qwen3-asked"):
        (result,) = ask(kind, "/v1/rerank", **fields)["results"]
        assert 0 < result["relevance_score"] < 1
        few = ask(kind, "/v1/rerank", 400, **fields | {"truncate_prompt_tokens": 3})  # nothing of the query is cut
        assert few["param"] == "truncate_prompt_tokens", few
    error = ask("qwen3-asked", "/v1/rerank", 400, query="red cat", documents=["cat " * 300])
    assert error["param"] == "documents.0" and error["code"] == "context_length_exceeded"


def test_large_lists_are_read_apart_and_answered(ask: Ask) -> None:
    documents = ["the cat sleeps " * 10 + "on the mat"[: number % 10] for number in range(2048)]
    results = ask("xlmr-cross", "/v1/rerank", query="cat", documents=documents)["results"]
    assert sorted(each["index"] for each in results) == list(range(2048))


def test_llamacpp_refuses_by_name_what_it_would_score_wrongly(models: Models) -> None:
    refusal, _ = planned(models.path("bert-cross", EngineType.LLAMA_CPP))
    assert isinstance(refusal, Refusal)
    assert "token type" in " ".join((refusal.reason, *(other.reason for other in refusal.rejected)))


@pytest.mark.parametrize("where", [Where.RERANK, Where.SCORE])
def test_fields_of_scores_show_in_the_answer(ask: Ask, where: Where) -> None:
    fields_show(ask, "xlmr-cross", where)
    nothing_changes(ask, "xlmr-cross", where)
