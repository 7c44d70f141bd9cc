"""Requests of other protocols as requests of chat: what they become, and what is refused by name."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_gateway.dialects.apart import translate
from llmservice_gateway.dialects.registry import COUNT_TOKENS, MESSAGES, RESPONSES, manners_at
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.completion import TokenizeRequest
from llmservice_runtime.openai.requests.parse import parse
from llmservice_runtime.wire.errors import ApiError

Json = dict[str, Any]
USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "weather", "description": "How it is.", "input_schema": SCHEMA}
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "description": "How it is.", "parameters": SCHEMA}}
FUNCTION = {"type": "function", "name": "weather", "description": "How it is.", "parameters": SCHEMA}
CALL = {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Röm"}}
CHAT_CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Röm"}'}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "21"}
STREAM = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


def message(*turns: Json, **fields: Any) -> Json:
    return {"model": "demo", "max_tokens": 9, "messages": list(turns) or [USER], **fields}


def response(*items: Json, **fields: Any) -> Json:
    return {"model": "demo", "input": list(items) or "Hi", **fields}


def said(dialect: Any, body: Json) -> Json:
    found: Json = json.loads(translate(dialect, json.dumps(body).encode()).body)
    return found


def refused(dialect: Any, body: Json) -> ApiError:
    with pytest.raises(ApiError) as caught:
        said(dialect, body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("fields", "chat"),
    [
        ({}, {}),
        ({"stream": True}, STREAM),
        ({"stream": False, "system": None, "metadata": {"user_id": "u"}}, {"safety_identifier": "u"}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "top_p": 0.5, "top_k": 3}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"thinking": {"type": "enabled"}}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "auto"}}),
        ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        (
            {"thinking": {"type": "enabled", "display": "omitted"}},
            {"thinking": {"type": "enabled"}, "include_reasoning": False},
        ),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
        ),
        ({"tools": [TOOL]}, {"tools": [CHAT_TOOL]}),
        (
            {
                "tools": [{**TOOL, "type": "custom", "cache_control": {"type": "ephemeral"}}],
                "tool_choice": {"type": "any"},
            },
            {"tools": [CHAT_TOOL], "tool_choice": "required"},
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}},
            {
                "tools": [CHAT_TOOL],
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
                "parallel_tool_calls": False,
            },
        ),
        ({"cache_control": {"type": "ephemeral"}, "service_tier": "auto", "speed": "standard"}, {}),
    ],
)
def test_the_fields_of_a_message(fields: Json, chat: Json) -> None:
    body = said(MESSAGES, message(**fields))
    assert body == {"model": "demo", "max_tokens": 9, "messages": [USER], **chat}
    parse(ChatRequest, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("given_turns", "chat"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], [USER]),
        ([USER, USER], [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Hi"}]}]),
        (
            [
                USER,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": ""},
                        {"type": "text", "text": "I look."},
                        CALL,
                        {**CALL, "id": "b"},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Well?"},
                        {**RESULT, "tool_use_id": "b", "content": [{"type": "text", "text": "no"}], "is_error": True},
                        {"type": "tool_result", "tool_use_id": "a"},
                    ],
                },
            ],
            [
                USER,
                {
                    "role": "assistant",
                    "content": "I look.",
                    "reasoning_content": "Hm.",
                    "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "b"}],
                },
                {"role": "tool", "tool_call_id": "b", "content": "Error: no"},
                {"role": "tool", "tool_call_id": "a", "content": ""},
                {"role": "user", "content": "Well?"},
            ],
        ),
        ([USER, {"role": "system", "content": "Brief."}], [USER, {"role": "system", "content": "Brief."}]),
        ([USER, {"role": "assistant", "content": []}], [USER]),
    ],
)
def test_the_turns_of_a_message(given_turns: list[Json], chat: list[Json]) -> None:
    body = said(MESSAGES, message(*given_turns, system=[]))
    assert body["messages"] == chat and "continue_final_message" not in body
    parse(ChatRequest, json.dumps(body).encode())


def test_the_system_prompt_and_the_beginning_of_an_answer() -> None:
    body = said(MESSAGES, message(USER, {"role": "assistant", "content": "The"}, system="Brief."))
    assert body["messages"] == [{"role": "system", "content": "Brief."}, USER, {"role": "assistant", "content": "The"}]
    assert body["continue_final_message"] is True
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    first = said(MESSAGES, message(system=blocks))["messages"][0]
    assert first == {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}


def turn(*blocks: Json, role: str = "user") -> Json:
    return {"role": role, "content": list(blocks)}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [USER]}, "max_tokens"),
        (message(max_tokens=0), "max_tokens"),
        (message(max_tokens="9"), "max_tokens"),
        (message(max_tokens=True), "max_tokens"),
        ({"max_tokens": 9}, "messages"),
        ({"max_tokens": 9, "messages": []}, "messages"),
        ({"max_tokens": 9, "messages": [3]}, "messages.0"),
        ({"max_tokens": 9, "messages": [{"role": "assistant", "content": []}]}, "messages"),
        (message({"role": "tool", "content": "x"}), "messages.0.role"),
        (message({"role": "user"}), "messages.0.content"),
        (message({"role": "user", "content": []}), "messages.0.content"),
        (message({"role": "user", "content": 5}), "messages.0.content"),
        (message({"role": "user", "content": "x", "name": "n"}), "messages.0.name"),
        (message(turn({"type": "image", "source": {"type": "url", "url": "http://a"}})), "messages.0.content.0.source"),
        (message(turn({"type": "image", "source": {"type": "file", "file_id": "f"}})), "messages.0.content.0.source"),
        (message(turn({"type": "image"})), "messages.0.content.0.source"),
        (message(USER, turn({"type": "image"}, role="assistant")), "messages.1.content.0"),
        (message(turn({"type": "document", "source": {}})), "messages.0.content.0"),
        (message(turn({"type": "server_tool_use"})), "messages.0.content.0.type"),
        (message(turn({"text": "x"})), "messages.0.content.0.type"),
        (message(turn({"type": "text", "text": 3})), "messages.0.content.0.text"),
        (message(turn({"type": "text", "text": "x", "citations": [{}]})), "messages.0.content.0.citations"),
        (message(turn(RESULT)), "messages.0.content.0.tool_use_id"),
        (message(USER, turn(CALL, role="assistant")), "messages.1"),
        (message(USER, turn(CALL, role="assistant"), USER), "messages.2"),
        (message(USER, turn(CALL, CALL, role="assistant")), "messages.1.content.1.id"),
        (message(USER, turn(CALL, role="assistant"), turn(RESULT, RESULT)), "messages.2.content.1.tool_use_id"),
        (
            message(USER, turn(CALL, role="assistant"), turn({**RESULT, "content": [{"type": "image"}]})),
            "messages.2.content.0.content.0.source",
        ),
        (message(USER, turn({"type": "redacted_thinking", "data": "x"}, role="assistant")), "messages.1.content.0"),
        (message(tools=[{"type": "web_search_20250305", "name": "w"}]), "tools.0.type"),
        (message(tools=[{"name": "w"}]), "tools.0.input_schema"),
        (message(tools=[{**TOOL, "defer_loading": True}]), "tools.0.defer_loading"),
        (message(tools=[{**TOOL, "input_examples": [{}]}]), "tools.0.input_examples"),
        (message(tool_choice={"type": "some"}), "tool_choice.type"),
        (message(thinking={"type": "between_tools"}), "thinking.type"),
        (message(thinking={"type": "enabled", "display": "all"}), "thinking.display"),
        (message(output_config={"effort": "huge"}), "output_config.effort"),
        (message(metadata={"team": "x"}), "metadata.team"),
        (message(speed="fast"), "speed"),
        (message(container="c"), "container"),
        (message(mcp_servers=[]), "mcp_servers"),
        (message(context_management={}), "context_management"),
        (message(n=2), "n"),
        (message(frobnicate=1), "frobnicate"),
    ],
)
def test_a_message_that_can_not_be_is_refused_by_name(body: Json, param: str) -> None:
    error = refused(MESSAGES, body)
    assert error.param == param and f"`{param}" in error.message


@pytest.mark.parametrize(
    ("fields", "tokenize"),
    [
        ({}, {}),
        ({"tools": [TOOL], "tool_choice": {"type": "none"}}, {}),
        (
            {"tools": [TOOL, {**TOOL, "name": "b"}], "tool_choice": {"type": "tool", "name": "weather"}},
            {"tools": [CHAT_TOOL]},
        ),
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        (
            {"output_config": {"effort": "low"}},
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}},
        ),
    ],
)
def test_what_is_counted_is_what_would_be_asked(fields: Json, tokenize: Json) -> None:
    body = said(COUNT_TOKENS, {"model": "demo", "messages": [USER], **fields})
    assert body == {"model": "demo", "messages": [USER], **tokenize}
    parse(TokenizeRequest, json.dumps(body).encode())
    assert refused(COUNT_TOKENS, message()).param == "max_tokens"


@pytest.mark.parametrize(
    ("fields", "chat"),
    [
        ({"stream": True}, STREAM),
        ({"stream": False, "store": False, "background": False, "truncation": "disabled", "max_tool_calls": 3}, {}),
        ({"max_output_tokens": 5, "temperature": 1, "top_p": 0.5}, {"max_tokens": 5, "temperature": 1, "top_p": 0.5}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False}, {"tools": [CHAT_TOOL], "parallel_tool_calls": False}),
        ({"tools": [FUNCTION], "tool_choice": "required"}, {"tools": [CHAT_TOOL], "tool_choice": "required"}),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "weather"}},
            {"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        (
            {
                "tools": [FUNCTION],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "weather"}],
                },
            },
            {
                "tools": [CHAT_TOOL],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "auto",
                        "tools": [{"type": "function", "function": {"name": "weather"}}],
                    },
                },
            },
        ),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"reasoning_effort": "high"}),
        ({"text": {"verbosity": "low", "format": {"type": "text"}}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
        ),
        (
            {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 3},
            {"logprobs": True, "top_logprobs": 3},
        ),
        ({"user": "u", "metadata": {"a": "b"}}, {"user": "u", "metadata": {"a": "b"}}),
    ],
)
def test_the_fields_of_a_response(fields: Json, chat: Json) -> None:
    body = said(RESPONSES, response(**fields))
    assert body == {"model": "demo", "messages": [USER], **chat}
    parse(ChatRequest, json.dumps(body).encode())


OUT = {"type": "function_call_output", "call_id": "a", "output": "21"}
CALLED = {"type": "function_call", "id": "fc", "call_id": "a", "name": "weather", "arguments": '{"city": "Röm"}'}


def test_the_items_of_a_response() -> None:
    items: list[Json] = [
        {"role": "developer", "content": "Brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {
            "type": "message",
            "id": "m",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        CALLED,
        {**CALLED, "call_id": "b"},
        {**OUT, "call_id": "b", "output": [{"type": "input_text", "text": "no"}]},
        OUT,
        {"role": "assistant", "content": "Warm."},
    ]
    body = said(RESPONSES, response(*items, instructions="Be kind."))
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Brief."},
        USER,
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "Hm.",
            "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "b"}],
        },
        {"role": "tool", "tool_call_id": "b", "content": "no"},
        {"role": "tool", "tool_call_id": "a", "content": "21"},
        {"role": "assistant", "content": "Warm."},
    ]
    parse(ChatRequest, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        (response(store=True), "store"),
        (response(background=True), "background"),
        (response(previous_response_id="r"), "previous_response_id"),
        (response(conversation="c"), "conversation"),
        (response(prompt={"id": "p"}), "prompt"),
        (response(truncation="auto"), "truncation"),
        (response(max_output_tokens=0), "max_output_tokens"),
        (response(max_tokens=5), "max_tokens"),
        (response(include=["file_search_call.results"]), "include.0"),
        (response(top_logprobs=2), "top_logprobs"),
        (response(stream_options={"include_obfuscation": True}), "stream_options.include_obfuscation"),
        (response(tools=[{"type": "web_search"}]), "tools.0.type"),
        (response(tools=[{"type": "custom", "name": "patch"}]), "tools.0.type"),
        (response(tools=[{**FUNCTION, "async": True}]), "tools.0.async"),
        (response(tool_choice={"type": "web_search"}), "tool_choice.type"),
        (response(tool_choice="some"), "tool_choice"),
        (response(reasoning={"effort": "huge"}), "reasoning.effort"),
        (response(reasoning={"mode": "pro"}), "reasoning.mode"),
        (response(text={"format": {"type": "xml"}}), "text.format.type"),
        (response({"role": "user", "content": []}), "input.0.content"),
        (
            response({"role": "user", "content": [{"type": "input_image", "image_url": "http://x/a.png"}]}),
            "input.0.content.0.image_url",
        ),
        (response({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}), "input.0.content.0.file_id"),
        (response({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}), "input.0.content.0"),
        (response({"role": "system", "content": [{"type": "input_image", "image_url": "data:"}]}), "input.0.content.0"),
        (response({"role": "user", "content": [{"type": "x"}]}), "input.0.content.0.type"),
        (response({"type": "item_reference", "id": "i"}), "input.0"),
        (response({"type": "computer_call"}), "input.0.type"),
        (response(OUT), "input.0.call_id"),
        (response(CALLED), "input.0.call_id"),
        (response(CALLED, CALLED), "input.1.call_id"),
        (response(CALLED, {"role": "user", "content": "x"}, OUT), "input.0.call_id"),
        (response({"type": "reasoning", "id": "r", "encrypted_content": "x"}), "input.0.encrypted_content"),
    ],
)
def test_a_response_that_can_not_be_is_refused_by_name(body: Json, param: str) -> None:
    error = refused(RESPONSES, body)
    assert error.param == param and f"`{param}" in error.message


PICTURE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
CHAT_PICTURE: Json = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}


def test_pictures_of_messages_are_pictures_of_chats() -> None:
    what = {"type": "text", "text": "What?"}
    found = said(MESSAGES, message(turn(PICTURE, {**what, "cache_control": {"type": "ephemeral"}})))
    assert found["messages"] == [{"role": "user", "content": [CHAT_PICTURE, what]}]
    failed = {**RESULT, "content": [PICTURE], "is_error": True}
    given = said(MESSAGES, message(USER, turn(CALL, role="assistant"), turn(failed)))["messages"][-1]
    assert given["role"] == "tool" and given["content"][1:] == [CHAT_PICTURE]


def test_pictures_of_responses_are_pictures_of_chats() -> None:
    part = {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "low"}
    found = said(RESPONSES, response({"role": "user", "content": [part, {"type": "input_text", "text": "What?"}]}))
    picture = {"type": "image_url", "image_url": {**CHAT_PICTURE["image_url"], "detail": "low"}}
    assert found["messages"] == [{"role": "user", "content": [picture, {"type": "text", "text": "What?"}]}]
    seen = said(RESPONSES, response(USER, CALLED, {**OUT, "output": [part]}))["messages"][-1]
    assert seen["content"] == [picture]


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
@pytest.mark.parametrize(
    "body", [b"[]", b"{", b"\xff", b'{"a": NaN}', b'{"system":' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
def test_what_is_no_request_is_refused(dialect: Any, body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        translate(dialect, body)
    assert caught.value.status == 400


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
def test_half_of_a_surrogate_pair_is_left_for_the_engine_to_refuse(dialect: Any) -> None:
    body = message({"role": "user", "content": "\ud800"}) if dialect is MESSAGES else {"input": "\ud800"}
    with pytest.raises(ApiError, match="surrogate"):
        parse(ChatRequest, json.dumps(said(dialect, body)).encode())


NAMES = """model messages input system max_tokens role content type text tools tool_choice name input_schema id call_id
tool_use_id output thinking reasoning format schema stream include stop_sequences metadata parameters"""
WORDS = """user assistant system text message tool_use tool_result function function_call function_call_output auto any
json_schema enabled reasoning"""
names = st.sampled_from(re.findall(r"\w+", NAMES))
words = st.sampled_from(re.findall(r"\w+", WORDS))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | words | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=25,
)


@pytest.mark.parametrize("dialect", [MESSAGES, COUNT_TOKENS, RESPONSES])
@settings(deadline=None)
@given(body=st.dictionaries(names, values, max_size=6))
def test_whatever_is_sent_becomes_a_request_or_is_refused_with_its_name(dialect: Any, body: Json) -> None:
    try:
        found = said(dialect, body)
    except ApiError as error:
        assert error.status == 400 and (error.param is None or f"`{error.param}" in error.message)
        return
    assert found["messages"]


def test_errors_are_those_of_the_protocol_that_a_path_belongs_to() -> None:
    error = ApiError(404, "Gone.", code="not_found")

    def shape(path: str, method: str = "POST") -> set[str]:
        manners = manners_at(method, path)
        return set(manners.error(error)) if manners else set()

    for path in ("/v1/messages", "/messages", "/apps/demo/v1/messages", "/v1/messages/batches"):
        assert shape(path) == {"type", "error"}
    for path in ("/v1/responses/resp_1", "/apps/demo/v1/responses"):
        assert shape(path) == {"error"}
    for path in ("/v1/models/a/b", "/v1/engines/LLM/demo", "/v1/cluster/auth", "/responses/x/v1/models"):
        assert shape(path) == {"error", "detail"}
    for path in ("/api/chat", "/apps/demo/api/tags", "/api/blobs/sha256:0"):
        assert shape(path) == {"error"}
    for path in ("/apps/demo/generate", "/apps/demo/info", "/apps/demo", "/apps/demo/"):
        assert shape(path) == {"error", "error_type"}
    assert not shape("/apps/demo", "GET")
    for path in ("/messages/demo/v1/chat/completions", "/v1/messagesx", "/v1/chat", "/chat/completions", "/"):
        assert not shape(path)
