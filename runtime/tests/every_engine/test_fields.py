"""Every field of every request is honoured, a documented no-op, or a 400 that names it: there is no fourth."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines import registry
from llmservice_runtime.openai.requests.parse import INSTEAD
from llmservice_runtime.openai.requests.table import FIELDS, POOLED, Where

from .api import ANSWER, CHAT, DETOKENIZE, MESSAGES, TEXT, TOKENIZE, Api, text_of
from .probes import NO_OPS, PROBES, WRONG

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES},
    TEXT: {"prompt": "What is"},
    TOKENIZE: {},
    DETOKENIZE: {},
}
WRITTEN = [(where, field) for field in FIELDS for where in Where if where in field.where - POOLED]
TRIED = [(where, field.name) for where, field in WRITTEN if not field.no_op]
IDLE = [(where, field.name) for where, field in WRITTEN if field.no_op]


def _id(value: Any) -> str:
    if isinstance(value, str):
        return {CHAT: "chat", TEXT: "completions"}.get(value, value.strip("/"))
    return json.dumps(value)[:40]


def test_every_field_has_a_way_to_see_whether_it_is_honoured() -> None:
    assert PROBES.keys() == set(TRIED)
    assert NO_OPS.keys() == {name for _, name in IDLE}


@pytest.mark.parametrize(("where", "name"), TRIED, ids=_id)
def test_a_field_is_honoured_or_refused_by_name(engine: EngineType, api: Api, where: Where, name: str) -> None:
    probe = PROBES[where, name]
    refused = registry.definition(engine).unsupported_fields
    if name not in refused:
        probe.check(api)
        return
    error = api.refused(where, {**BODIES[where], **probe.sample})
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")
    assert refused[name] in error["message"], "it says what to use instead"


@pytest.mark.parametrize(("where", "name"), IDLE, ids=_id)
def test_a_no_op_changes_nothing(api: Api, where: Where, name: str) -> None:
    fields = NO_OPS[name]
    if fields.get("stream"):
        assert text_of(api.chunks(CHAT, **fields)) == ANSWER
    elif where is Where.CHAT:
        assert api.say(**fields) == ANSWER
    else:
        assert api.complete(**fields)["choices"] == api.complete()["choices"]


@pytest.mark.parametrize(("path", "fields", "param"), WRONG, ids=_id)
def test_a_wrong_value_is_refused_with_the_field_and_what_it_may_be(
    api: Api, path: str, fields: dict[str, Any], param: str
) -> None:
    error = api.refused(path, BODIES[path] | fields)
    assert error["param"] == param and f"`{param}" in error["message"], error
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", sorted(INSTEAD))
@pytest.mark.parametrize("path", [CHAT, TEXT], ids=_id)
def test_what_other_servers_know_is_refused_with_what_to_use_instead(api: Api, path: str, name: str) -> None:
    if any(field.name == name and path in field.where for field in FIELDS):
        return  # here it is a field like any other
    error = api.refused(path, {**BODIES[path], name: {}})
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")
    assert INSTEAD[name] in error["message"]


def test_null_is_as_good_as_omitted(api: Api) -> None:
    names = {field.name for field in FIELDS if Where.CHAT in field.where and "." not in field.name} - {"messages"}
    said = api.chat(**dict.fromkeys(names - {"temperature"}))
    assert said["choices"][0]["message"]["content"] == ANSWER
