"""What is refused, and that the refusal names the field, the value and the range."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.resources.chat.completions import Completions as Chats
from openai.resources.completions import Completions

from llmservice_runtime.openai.params import constraint
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.completion import CompletionRequest
from llmservice_runtime.openai.requests.parse import parse
from llmservice_runtime.protocol.engine import GrammarKind
from llmservice_runtime.wire.errors import ApiError

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def chat(**fields: Any) -> ChatRequest:
    return parse(ChatRequest, json.dumps({**CHAT, **fields}).encode())


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temperature": 3}, "temperature", ("2", "got 3")),
        ({"temperature": "hot"}, "temperature", ("hot",)),
        ({"top_p": 1.5}, "top_p", ("1", "got 1.5")),
        ({"n": 0}, "n", ("1", "got 0")),
        ({"max_tokens": -5}, "max_tokens", ("1", "got -5")),
        ({"top_logprobs": 21}, "top_logprobs", ("20", "got 21")),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", ("100", "got 101")),
        ({"stop": [""]}, "stop", ("got",)),
        ({"messages": []}, "messages", ("1",)),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", ("robot", "user")),
        ({"functions": []}, "functions", ("`tools`",)),
        ({"num_ctx": 4096}, "num_ctx", ("contextTokens",)),
        ({"suffix": "x"}, "suffix", ("fill-in-the-middle",)),
        ({"shoe_size": 44}, "shoe_size", ("no such field",)),
        ({"stream_options": {"include_costs": True}}, "stream_options.include_costs", ("True", "true")),
        ({"max_tokens": True}, "max_tokens", ("number",)),
        ({"max_tokens": "5"}, "max_tokens", ("number",)),
        ({"max_tokens": 1.5}, "max_tokens", ("fractional",)),
        ({"max_completion_tokens": False}, "max_completion_tokens", ("number",)),
        ({"n": True}, "n", ("number",)),
        ({"seed": "1"}, "seed", ("number",)),
        ({"temperature": True}, "temperature", ("number",)),
        ({"top_p": "0.5"}, "top_p", ("number",)),
        ({"top_k": True}, "top_k", ("number",)),
        ({"presence_penalty": "1"}, "presence_penalty", ("number",)),
        ({"logit_bias": {"5": True}}, "logit_bias.5", ("number",)),
        ({"stop_token_ids": [True]}, "stop_token_ids.0", ("integer",)),
        ({"stop_token_ids": ["1"]}, "stop_token_ids.0", ("integer",)),
        ({"top_logprobs": True}, "top_logprobs", ("number",)),
        ({"stream": "true"}, "stream", ("boolean",)),
        ({"stream": 1}, "stream", ("boolean",)),
        ({"logprobs": 1}, "logprobs", ("boolean",)),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls", ("boolean",)),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", ("boolean",)),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation", ("False",)),
        ({"verbosity": "loud"}, "verbosity", ("medium",)),
        ({"modalities": ["text", "audio"]}, "modalities.1", ("text",)),
        ({"moderation": {}}, "moderation", ("moderat",)),
        ({"response_format": {"type": "xml"}}, "response_format.type", ("json_object", "xml")),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    assert caught.value.status == 400
    assert caught.value.param is not None and caught.value.param.startswith(param)
    assert f"`{param}" in caught.value.message
    assert any(word in caught.value.message for word in words), caught.value.message
    assert "Value error" not in caught.value.message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b'{"a": NaN}', b'{"a": 1e400}', b"[" * 100_000, b"\xff\xfe", b'{"a": "\\ud800"}']
)
def test_what_is_not_a_json_object(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(ChatRequest, body)
    assert caught.value.code == "invalid_json"


def test_surrogate_pairs_are_characters() -> None:
    request = parse(CompletionRequest, b'{"prompt": "\\ud83d\\ude00"}')
    assert request.prompt == "\U0001f600"


def test_missing_fields_are_named() -> None:
    with pytest.raises(ApiError) as caught:
        parse(CompletionRequest, b"{}")
    assert caught.value.param == "prompt"


def test_null_is_as_good_as_omitted() -> None:
    request = chat(temperature=None, tools=None, stop=None, functions=None)
    assert request.temperature == 1.0


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4), st.data()
)
def test_any_value_is_taken_or_refused_never_a_crash(value: Any, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ChatRequest.model_fields)))
    try:
        parse(ChatRequest, json.dumps({**CHAT, name: value}).encode())
    except ApiError as error:
        assert error.status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"thinking": {"type": "disabled"}},
        {"enable_thinking": True},
        {"reasoning_format": "auto"},
        {"verbosity": "low", "reasoning_effort": "max", "modalities": ["text"], "prompt_cache_options": {}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"max_tokens": 5.0, "temperature": 1, "top_p": 1},
        {"logprobs": False, "top_logprobs": 0},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
    ],
)
def test_extras_of_real_clients_are_accepted(fields: dict[str, Any]) -> None:
    chat(**fields)


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize("given_schema", [SCHEMA, {"name": "x", "schema": SCHEMA, "strict": True}, {"schema": SCHEMA}])
def test_json_schema_named_and_bare(given_schema: dict[str, Any]) -> None:
    held = constraint(chat(response_format={"type": "json_schema", "json_schema": given_schema}))
    assert held is not None
    assert held[1].kind is GrammarKind.JSON_SCHEMA
    assert SCHEMA.items() <= json.loads(held[1].source).items()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages.0.content.0"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "none"}}},
            "tool_choice.allowed_tools.mode",
        ),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json"),
    ],
)
def test_refusals_name_what_stands_in_the_body(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "json_schema"}, "json_schema"),
        ({"type": "json_schema", "json_schema": None}, "json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "description": "d"}},
            "json_schema.schema",
        ),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": None}}, "json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": "{}"}}, "json_schema.schema"),
        ({"type": "json_object", "json_schema": {"schema": SCHEMA}}, "json_schema"),
        ({"type": "text", "json_schema": SCHEMA}, "json_schema"),
    ],
)
def test_a_json_schema_that_is_none_is_refused(response_format: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        constraint(chat(response_format=response_format))
    assert caught.value.param == f"response_format.{param}"


def test_every_parameter_of_the_openai_sdk_is_taken_or_refused_by_name() -> None:
    for create, request, fields in (
        (Chats.create, ChatRequest, CHAT),
        (Completions.create, CompletionRequest, {"prompt": "x"}),
    ):
        for name in set(inspect.signature(create).parameters) - {"self", "messages", "prompt", "timeout"}:
            if name.startswith("extra_") or name in request.model_fields:
                continue
            with pytest.raises(ApiError) as caught:
                parse(request, json.dumps({**fields, name: {}}).encode())
            assert "no such field here" not in caught.value.message, name


def test_constraints_of_every_field() -> None:
    for fields, kind in (
        ({"response_format": {"type": "json_object"}}, GrammarKind.JSON_OBJECT),
        ({"structured_outputs": {"json": SCHEMA}}, GrammarKind.JSON_SCHEMA),
        ({"structured_outputs": {"regex": "a+"}}, GrammarKind.REGEX),
        ({"structured_outputs": {"choice": ["yes", 'n"o']}}, GrammarKind.LARK),
        ({"guided_json": json.dumps(SCHEMA)}, GrammarKind.JSON_SCHEMA),
        ({"guided_regex": "a+"}, GrammarKind.REGEX),
        ({"guided_grammar": "start: /a/"}, GrammarKind.LARK),
    ):
        held = constraint(chat(**fields))
        assert held is not None and held[1].kind is kind
    assert constraint(chat(response_format={"type": "text"})) is None
    with pytest.raises(ApiError, match="both constrain"):
        constraint(chat(guided_regex="a", guided_choice=["b"]))
    for text in ("{", '{"a":' + "[" * 5000):
        with pytest.raises(ApiError, match="`guided_json` is"):
            constraint(chat(guided_json=text))
