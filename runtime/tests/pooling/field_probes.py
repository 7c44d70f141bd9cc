"""How every field of the endpoints for vectors and scores shows in the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmservice_runtime.openai.requests.table import FIELDS, Where

from .conftest import NAME

Ask = Callable[..., Any]
TEXTS = ["the cat sleeps on the red mat", "she bakes bread"]
BODIES: dict[Where, dict[str, Any]] = {
    Where.EMBEDDINGS: {"input": TEXTS},
    Where.RERANK: {"query": "cat", "documents": TEXTS},
    Where.SCORE: {"text_1": "cat", "text_2": TEXTS},
}


def entries(answer: Any) -> Any:
    return answer.get("data", answer.get("results"))


PROBES: dict[tuple[Where, str], tuple[dict[str, Any], Callable[[Any], bool]]] = {
    **{(where, "model"): ({"model": NAME}, lambda answer: answer["model"] == NAME) for where in BODIES},
    **{
        (where, "truncate_prompt_tokens"): ({"truncate_prompt_tokens": 7}, lambda answer: tokens(answer) <= 14)
        for where in BODIES
    },
    (Where.EMBEDDINGS, "input"): ({"input": TEXTS[0]}, lambda answer: len(entries(answer)) == 1),
    (Where.EMBEDDINGS, "encoding_format"): (
        {"encoding_format": "base64"},
        lambda answer: isinstance(entries(answer)[0]["embedding"], str),
    ),
    (Where.EMBEDDINGS, "dimensions"): (
        {"dimensions": 64},
        lambda answer: len(entries(answer)[0]["embedding"]) == 64,
    ),
    (Where.EMBEDDINGS, "prompt_name"): ({"prompt_name": ""}, lambda answer: len(entries(answer)) == 2),
    (Where.RERANK, "query"): ({"query": "cat sleeps"}, lambda answer: len(entries(answer)) == 2),
    (Where.RERANK, "documents"): ({"documents": [{"text": "a"}]}, lambda answer: len(entries(answer)) == 1),
    (Where.RERANK, "top_n"): ({"top_n": 1}, lambda answer: len(entries(answer)) == 1),
    (Where.RERANK, "return_documents"): (
        {"return_documents": False},
        lambda answer: "document" not in entries(answer)[0],
    ),
    (Where.SCORE, "text_1"): ({"text_1": TEXTS}, lambda answer: len(entries(answer)) == 2),
    (Where.SCORE, "text_2"): ({"text_2": "a"}, lambda answer: len(entries(answer)) == 1),
}


def tokens(answer: Any) -> int:
    return int(answer["usage"]["prompt_tokens"])


def fields_show(ask: Ask, kind: str, where: Where) -> None:
    """Each of them does."""
    for (place, name), (fields, seen) in PROBES.items():
        if place is where:
            assert seen(ask(kind, where, **{**BODIES[where], **fields})), name


def nothing_changes(ask: Ask, kind: str, where: Where) -> None:
    """What carries nothing changes nothing, and null is as good as omitted."""
    plain = ask(kind, where, **BODIES[where])
    names = {field.name for field in FIELDS if where in field.where} - BODIES[where].keys() - {"model"}
    for fields in ({"user": "somebody"}, dict.fromkeys(names)):
        alike(entries(ask(kind, where, **BODIES[where], **fields)), entries(plain))


def alike(one: Any, other: Any) -> None:
    """Equal but for the last digits of numbers: who computes with whom is not the same twice."""
    match one:
        case dict():
            assert one.keys() == other.keys()
            for key in one:
                alike(one[key], other[key])
        case list():
            assert len(one) == len(other)
            for mine, theirs in zip(one, other, strict=True):
                alike(mine, theirs)
        case float():
            assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
        case _:
            assert one == other
