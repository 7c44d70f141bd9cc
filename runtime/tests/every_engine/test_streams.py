"""The bytes of streams and whole answers are the same on every engine, and as real clients need them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmservice_runtime.contract import metrics as names
from llmservice_runtime.contract.engines import EngineType

from . import golden
from .api import CHAT, MESSAGES, TEXT, Api
from .engines import NAME
from .probes import NAMED, TOOL
from .replica import Replica
from .test_load import until

CITY = {
    "type": "object",
    "properties": {"city": {"const": "Rome"}},
    "required": ["city"],
    "additionalProperties": False,
}
ROME = {"type": "function", "function": {**TOOL["function"], "parameters": CITY}}
USAGE = {"stream_options": {"include_usage": True}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {}),
    "chat-usage": (CHAT, USAGE),
    "chat-length": (CHAT, {"max_tokens": 3, **USAGE}),
    "chat-stop": (CHAT, {"stop": ["Finland"], **USAGE}),
    "chat-logprobs": (CHAT, {"logprobs": True, "max_tokens": 1}),
    "chat-schema": (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"const": "Helsinki"}}}),
    "chat-call": (CHAT, {"tools": [ROME], "tool_choice": NAMED, "parallel_tool_calls": False, **USAGE}),
    "completion": (TEXT, {"max_tokens": 4, **USAGE}),
    "completion-echo": (TEXT, {"max_tokens": 2, "echo": True, "logprobs": 0}),
}


HELD = ("chat-schema", "chat-call")


def _body(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "The early bird"}
    return {"model": NAME, **asked, "temperature": 0, **fields}


@pytest.mark.parametrize("name", [name for name in CASES if name != "completion-echo"])  # its scores come in pieces
def test_a_stream_is_that_of_the_file(api: Api, engine: EngineType, name: str) -> None:
    path, fields = CASES[name]
    reply = api.send(path, {**_body(path, fields), "stream": True})
    assert reply.status == 200
    golden.check(f"{name}.stream", golden.stream([_counted(event, engine, name) for event in reply.events]))


@pytest.mark.parametrize("name", CASES)
def test_a_whole_answer_is_that_of_the_file(api: Api, engine: EngineType, name: str) -> None:
    path, fields = CASES[name]
    reply = api.send(path, _body(path, {key: value for key, value in fields.items() if key != "stream_options"}))
    assert reply.headers["content-type"].startswith("application/json")
    body = json.loads(_counted(json.dumps(reply.body), engine, name))
    golden.check(f"{name}.json", golden.body(_without_cache(body)))


def _counted(event: str, engine: EngineType, name: str) -> str:
    """The event without the token that ends what a grammar holds: vLLM draws it, the others know that it must come."""
    if engine is not EngineType.VLLM or name not in HELD or event == "[DONE]":
        return event
    value = json.loads(event)
    for count in ("completion_tokens", "total_tokens") if value.get("usage") else ():
        value["usage"][count] -= 1
    return json.dumps(value)


def _without_cache(body: dict[str, Any]) -> dict[str, Any]:
    """How much of a prompt was there already depends on what was asked before."""
    return body | {"usage": {key: value for key, value in body["usage"].items() if key != "prompt_tokens_details"}}


def test_several_answers_come_in_one_stream(api: Api) -> None:
    """Dify and LangChain: one role, one finish_reason for each, nothing with a choice after that."""
    chunks = api.chunks(n=2, stream_options={"include_usage": True})
    for index in (0, 1):
        own = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert [choice["finish_reason"] for choice in own] == [None] * (len(own) - 1) + ["stop"]
        assert not any("role" in choice["delta"] for choice in own[1:])
    assert chunks[-1]["choices"] == []


def test_headers_of_a_stream(api: Api) -> None:
    headers = api.send(CHAT, {**_body(CHAT, {}), "stream": True}).headers
    assert headers["content-type"].split(";")[0] == "text/event-stream"
    assert headers["cache-control"] == "no-cache" and headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers


def test_an_answer_comes_as_it_is_made(api: Api, replica: Replica) -> None:
    """Nothing in between collects it: the first words are there while the rest is not."""

    def ended() -> float:
        return api.metrics().value(f"{names.REQUEST_SUCCESS}_total")

    before = ended()
    with replica.slowed():
        answer = api.endless(max_tokens=1500)
        so_far = ended()
    with answer:
        rest = answer.read().decode()
    assert so_far == before, rest[:1000]
    assert rest.count("data: ") > 300 and rest.endswith("data: [DONE]\n\n"), rest[:1000]
    until(lambda: ended() == before + 1)
