"""Every field of the endpoints for vectors and scores shows in the answer, or carries nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmservice_runtime.openai.requests.table import FIELDS, POOLED, Where

from .conftest import NAME

pytestmark = pytest.mark.engine
Ask = Callable[..., Any]
TEXTS = ["the cat sleeps on the red mat", "she bakes bread"]
BODIES: dict[Where, dict[str, Any]] = {
    Where.EMBEDDINGS: {"input": TEXTS},
    Where.RERANK: {"query": "cat", "documents": TEXTS},
    Where.SCORE: {"text_1": "cat", "text_2": TEXTS},
}
SERVED = {Where.EMBEDDINGS: "bert-mean", Where.RERANK: "xlmr-cross", Where.SCORE: "xlmr-cross"}


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


def test_every_field_has_a_way_to_see_that_it_is_honoured() -> None:
    rows = {(where, field.name) for field in FIELDS for where in field.where & POOLED if not field.no_op}
    assert PROBES.keys() == rows
    assert {field.name for field in FIELDS if field.no_op and field.where & POOLED} == {"user"}


@pytest.mark.parametrize("where", BODIES)
def test_fields_show_in_the_answer(ask: Ask, where: Where) -> None:
    for (place, name), (fields, seen) in PROBES.items():
        if place is where:
            assert seen(ask(SERVED[where], where, **{**BODIES[where], **fields})), name


@pytest.mark.parametrize("where", BODIES)
def test_what_carries_nothing_changes_nothing_and_null_is_as_good_as_omitted(ask: Ask, where: Where) -> None:
    plain = ask(SERVED[where], where, **BODIES[where])
    names = {field.name for field in FIELDS if where in field.where} - BODIES[where].keys() - {"model"}
    for fields in ({"user": "somebody"}, dict.fromkeys(names)):
        assert entries(ask(SERVED[where], where, **BODIES[where], **fields)) == entries(plain)
