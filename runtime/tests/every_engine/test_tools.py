"""Tool calls: the same whole and streamed, valid whatever the model says, and as a public prober wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import openai
import pytest
from canitoolcall.probe import BUILTIN_SCENARIOS, Scenario, probe

from .api import MESSAGES, Api
from .engines import NAME
from .probes import NAMED, TIME, TOOL, TOOLS, calls

CHOICES: tuple[dict[str, Any], ...] = (
    {"tool_choice": "required"},
    {"tool_choice": "required", "parallel_tool_calls": False},
    {"tool_choice": NAMED, "parallel_tool_calls": False},
    {"tool_choice": "auto"},
    {"tool_choice": "none"},
)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: json.dumps(choice)[:60])
def test_streamed_and_whole_calls_are_equal(api: Api, choice: dict[str, Any]) -> None:
    fields = {**TOOLS, **choice}
    whole = api.chat(**fields)
    message = whole["choices"][0]["message"]
    chunks = api.chunks(**fields)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == (message["content"] or "")
    assert _assembled(deltas) == [
        (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or []
    ]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert reasons == [whole["choices"][0]["finish_reason"]]
    assert all(name in ("weather", "time") for name, _ in calls(whole))


def _assembled(deltas: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """As LlamaIndex does it: one call in a chunk, id and name once, joined by index."""
    found: dict[int, dict[str, str]] = {}
    for delta in deltas:
        pieces = delta.get("tool_calls") or []
        assert len(pieces) <= 1, "at most one call in a chunk"
        for piece in pieces:
            known = piece["index"] in found
            call = found.setdefault(piece["index"], {"name": "", "arguments": ""})
            assert ("id" in piece, "name" in piece["function"]) == (not known, not known), piece
            call["name"] += piece["function"].get("name") or ""
            call["arguments"] += piece["function"].get("arguments") or ""
    return [(call["name"], call["arguments"]) for _, call in sorted(found.items())]


def test_calls_have_ids_of_their_own(api: Api) -> None:
    bodies = [api.chat(**TOOLS, tool_choice="required") for _ in range(2)]
    ids = [call["id"] for body in bodies for call in body["choices"][0]["message"]["tool_calls"]]
    assert len(set(ids)) == len(ids) and all(ids)
    assert all(body["choices"][0]["finish_reason"] == "tool_calls" for body in bodies)


def test_openai_python_reads_calls(api: Api) -> None:
    with openai.OpenAI(base_url=api.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:
        messages: Any = MESSAGES
        tools: Any = [TOOL, TIME]
        named: Any = NAMED
        answer = client.chat.completions.create(
            model=NAME,
            messages=messages,
            tools=tools,
            tool_choice=named,
            max_tokens=200,
            parallel_tool_calls=False,
        )
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function" and json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")


def test_the_result_of_a_call_is_read(api: Api) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "clear"}'},
    ]
    longer = api.chat(messages=messages, tools=[TOOL], max_tokens=1)["usage"]["prompt_tokens"]
    assert longer > api.chat(tools=[TOOL], max_tokens=1)["usage"]["prompt_tokens"]


CLOSED = {"unicode-args"}
"""Scenarios whose tools take no other arguments here: with a text of several alphabets half copied the demo
model would go on under names of its own until it may say no more."""


@pytest.mark.parametrize("scenario", BUILTIN_SCENARIOS, ids=lambda scenario: scenario.id)
def test_the_public_prober_finds_no_fault(api: Api, scenario: Scenario) -> None:
    _prove(api, scenario)


CALLS = [scenario for scenario in BUILTIN_SCENARIOS if scenario.expect.tool_names and scenario.tool_choice == "auto"]


@pytest.mark.parametrize("scenario", CALLS, ids=lambda scenario: scenario.id)
def test_the_public_prober_finds_no_fault_where_a_call_is_demanded(api: Api, scenario: Scenario) -> None:
    _prove(api, replace(scenario, tool_choice="required"))


def _prove(api: Api, scenario: Scenario) -> None:
    if scenario.id in CLOSED:
        scenario = replace(scenario, tools=tuple(_closed(tool) for tool in scenario.tools))
    report = probe(api.url + "/v1", NAME, scenarios=[scenario], timeout_s=120)
    assert report.summary()["pass"] == len(report.outcomes), report.render_text()
    assert not any(outcome.warnings for outcome in report.outcomes), report.render_text()


def _closed(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    return {**tool, "function": {**function, "parameters": {**function["parameters"], "additionalProperties": False}}}
