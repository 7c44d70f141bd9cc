"""The table of fields says what the models of requests are, and the docs what the table says."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines import registry
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.page import api_page
from llmservice_runtime.openai.requests.parse import parse
from llmservice_runtime.openai.requests.table import FIELDS, Where, declared, default_of
from llmservice_runtime.wire.errors import ApiError

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("where", Where)
def test_every_field_of_a_request_has_one_row(where: Where) -> None:
    rows = Counter(field.name for field in FIELDS if where in field.where)
    assert rows == Counter(declared(where))


def test_defaults_are_those_of_the_models() -> None:
    told = {field.name: default_of(field) for field in FIELDS if field.where & {Where.CHAT}}
    assert told["temperature"] == "`1.0`" and told["reasoning_format"] == '`"auto"`' and told["tools"] == "none"
    assert told["messages"] == "must be there"


@pytest.mark.parametrize("engine", EngineType)
def test_engines_refuse_fields_that_there_are(engine: EngineType) -> None:
    refused = registry.definition(engine).unsupported_fields
    assert refused.keys() <= {field.name for field in FIELDS}
    assert all(text.endswith(".") for text in refused.values())


def test_the_page_tells_what_an_engine_refuses_and_keeps_what_is_by_hand() -> None:
    page = "A\n<!-- generated: refused by engines -->\nold\n<!-- end -->\nB\n"
    told = api_page(page, {"one": {"min_p": "use `top_p`."}, "two": {}})
    assert "| one | `min_p` | Use `top_p`. |" in told and told.startswith("A\n") and told.endswith("\nB\n")
    assert api_page(told, {"two": {}}).count("honours every field") == 1


REFUSED = {"min_p": "use `top_p`.", "structured_outputs.grammar": "use `regex`.", "thinking.type": "use a boolean."}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"min_p": 0.1}, "min_p"),
        ({"structured_outputs": {"grammar": "start: /a/"}}, "structured_outputs.grammar"),
        ({"thinking": {"type": "enabled"}}, "thinking.type"),
    ],
)
def test_what_an_engine_can_not_honour_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(ChatRequest, json.dumps(CHAT | fields).encode(), None, REFUSED)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, "unsupported_parameter")
    assert REFUSED[param] in caught.value.message


@pytest.mark.parametrize(
    "fields", [{"min_p": 0}, {"min_p": None}, {"structured_outputs": {"regex": "a"}}, {"thinking": True}]
)
def test_what_says_no_more_than_the_default_is_taken(fields: dict[str, object]) -> None:
    parse(ChatRequest, json.dumps(CHAT | fields).encode(), None, REFUSED)
