"""The clients of Anthropic and OpenAI, as they are, against the real gateway before the real engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from machine_world import Here  # type: ignore[import-not-found]

pytestmark = pytest.mark.engine
PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"
QUESTION = "What is LLMService?"
ANSWER = "LLMService is a Kubernetes operator"
ASK = "What is the weather in Paris?"
USER: list[Any] = [{"role": "user", "content": QUESTION}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "get_weather", "description": "The weather in a city.", "input_schema": SCHEMA}
FUNCTION: Any = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}


@pytest.fixture
def claude(demo: Here) -> Iterator[anthropic.Anthropic]:
    url = demo.snapshot()["url"].removesuffix("/v1")
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(demo: Here) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=demo.snapshot()["url"], api_key="none", max_retries=0) as client:
        yield client


def metric(demo: Here, pattern: str) -> int:
    """The sum of what the gateway's /metrics has."""
    with urllib.request.urlopen(f"{demo.snapshot()['url'].removesuffix('/v1')}/metrics") as answer:
        text = answer.read().decode()
    return sum(int(float(value)) for value in re.findall(pattern + r" (\S+)", text))


def test_a_message_is_the_same_whole_and_streamed(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "demo", "max_tokens": 100, "messages": USER, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(system="Be brief.", **asked)
    with claude.messages.stream(system=[{"type": "text", "text": "Be brief."}], **asked) as stream:
        pieces = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert len(pieces) > 5 and whole.content[0].type == "text"
    assert streamed.content[0].type == "text" and len(whole.content) == len(streamed.content) == 1
    assert whole.content[0].text == streamed.content[0].text == "".join(pieces)
    assert whole.stop_reason == streamed.stop_reason == "end_turn" and whole.model == "demo"
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 5
    cached = streamed.usage.cache_read_input_tokens
    assert cached is not None and streamed.usage.input_tokens + cached > 5


def test_the_first_event_of_a_message_counts_its_prompt(claude: anthropic.Anthropic) -> None:
    with claude.messages.create(model="demo", max_tokens=8, messages=USER, stream=True) as stream:
        first = next(iter(stream))
    assert first.type == "message_start"
    usage = first.message.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) > 5
    counted = claude.messages.count_tokens(model="demo", messages=USER).input_tokens
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted


def test_a_message_begins_where_its_last_turn_ends_and_ends_as_asked(claude: anthropic.Anthropic) -> None:
    turns: list[Any] = [*USER, {"role": "assistant", "content": "LLMService is a Kubernetes"}]
    asked: Any = {"model": "demo", "messages": turns, "extra_body": {"temperature": 0}}
    stopped = claude.messages.create(max_tokens=50, stop_sequences=["operator"], **asked)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "operator")
    assert [block.text.strip() for block in stopped.content if block.type == "text"] in ([], [""])
    short = claude.messages.create(max_tokens=2, **asked)
    assert short.stop_reason == "max_tokens" and short.usage.output_tokens == 2


@pytest.mark.parametrize("streams", [False, True])
def test_tools_of_a_message(claude: anthropic.Anthropic, streams: bool) -> None:
    asked: Any = {"model": "demo", "max_tokens": 200, "tools": [WEATHER], "extra_body": {"temperature": 0}}
    turns: list[Any] = [{"role": "user", "content": ASK}]

    def message(**more: Any) -> anthropic.types.Message:
        if not streams:
            whole: anthropic.types.Message = claude.messages.create(messages=turns, **asked, **more)
            return whole
        with claude.messages.stream(messages=turns, **asked, **more) as stream:
            return stream.get_final_message()

    called = message(tool_choice={"type": "any"})
    call = called.content[-1]
    assert called.stop_reason == "tool_use" and call.type == "tool_use"
    assert call.name == "get_weather" and "Paris" in str(call.input["city"])
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "21 degrees"}]}
    turns += [called.to_param(), {"role": "user", "content": [result]}]
    assert message().stop_reason in ("end_turn", "tool_use")


def test_a_response_is_the_same_whole_and_streamed(gpt: openai.OpenAI) -> None:
    asked: Any = {"model": "demo", "input": QUESTION, "temperature": 0, "max_output_tokens": 100}
    whole = gpt.responses.create(**asked)
    with gpt.responses.stream(**asked) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        streamed = stream.get_final_response()
    assert whole.output_text.startswith(ANSWER) and whole.status == streamed.status == "completed"
    assert len(deltas) > 5 and "".join(deltas) == whole.output_text == streamed.output_text
    assert whole.usage and streamed.usage and whole.usage.total_tokens == streamed.usage.total_tokens > 5
    short = gpt.responses.create(**asked | {"max_output_tokens": 2})
    assert short.status == "incomplete" and short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("streams", [False, True])
def test_functions_of_a_response(gpt: openai.OpenAI, streams: bool) -> None:
    asked: Any = {"model": "demo", "tools": [FUNCTION], "temperature": 0, "max_output_tokens": 200}
    items: list[Any] = [{"role": "user", "content": ASK}]

    def response(**more: Any) -> openai.types.responses.Response:
        if not streams:
            whole: openai.types.responses.Response = gpt.responses.create(input=items, **asked, **more)
            return whole
        with gpt.responses.stream(input=items, **asked, **more) as stream:
            return stream.get_final_response()

    called = response(tool_choice="required")
    call = called.output[-1]
    assert call.type == "function_call" and call.name == "get_weather"
    assert "Paris" in json.loads(call.arguments)["city"]
    given = [item.model_dump(exclude={"parsed_arguments"}, exclude_none=True) for item in called.output]
    items += [*given, {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}]
    assert response().status == "completed"


def test_a_response_held_to_a_schema_and_with_logprobs(gpt: openai.OpenAI) -> None:
    schema = {**SCHEMA, "properties": {"city": {"enum": ["Paris", "Rome"]}}, "additionalProperties": False}
    held: Any = {"format": {"type": "json_schema", "name": "place", "schema": schema}}
    answer = gpt.responses.create(model="demo", input=ASK, text=held, temperature=0, max_output_tokens=100)
    assert set(json.loads(answer.output_text)) == {"city"}
    told = gpt.responses.create(
        model="demo", input="Hi", max_output_tokens=4, include=["message.output_text.logprobs"], top_logprobs=2
    )
    part = told.output[0].content[0]  # type: ignore[union-attr, index]
    assert part.type == "output_text" and part.logprobs and len(part.logprobs[0].top_logprobs) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("number", range(3))
def test_the_code_of_the_page_works_as_pasted(demo: Here, number: int) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[number]
    base = demo.snapshot()["url"].removesuffix("/v1")
    pasted = code.replace("http://127.0.0.1:8080", base)
    assert pasted != code
    shell = subprocess.run([sys.executable, "-c", pasted], capture_output=True, text=True, timeout=60, check=True)
    assert (("LLMService", "get_weather", "LLMService")[number]) in shell.stdout


def test_refusals_are_those_of_each_protocol(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="nobody", max_tokens=8, messages=USER)
    body: Any = missing.value.body
    assert body["type"] == "error" and body["error"]["type"] == "not_found_error" and missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.post("/v1/messages", body={"model": "demo", "messages": USER}, cast_to=object)
    long: list[Any] = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(anthropic.BadRequestError, match="context"):
        claude.messages.create(model="demo", max_tokens=8, messages=long)
    with pytest.raises(openai.BadRequestError, match="nothing is stored") as stored:
        gpt.responses.create(model="demo", input="Hi", previous_response_id="resp_1")
    assert (stored.value.param, stored.value.code) == ("previous_response_id", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError, match="No response is stored"):
        gpt.responses.retrieve("resp_1")


def test_what_the_context_leaves_is_enough(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    """Clients of these protocols ask for as much as the largest model has; that is a bound, not a need."""
    message = claude.messages.create(
        model="demo", max_tokens=64_000, messages=USER, extra_body={"temperature": 0}, timeout=60
    )
    assert message.stop_reason == "end_turn"
    answer = gpt.responses.create(model="demo", input=QUESTION, temperature=0, max_output_tokens=64_000)
    assert answer.status == "completed" and answer.max_output_tokens == 64_000


def test_a_client_that_leaves_frees_the_engine(demo: Here, claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    flight = r'llmservice_gateway_in_flight\{service="default/demo"\}'
    drawn = r'_tokens_total\{kind="completion".*\}'
    long = {"type": "object", "properties": {"a": {"type": "string", "minLength": 6000}}, "required": ["a"]}
    held: Any = {"type": "json_schema", "schema": long}
    before = metric(demo, drawn)
    asked: Any = {"model": "demo", "max_tokens": 1800, "messages": USER, "output_config": {"format": held}}
    with claude.messages.create(stream=True, **asked) as stream:
        assert [event.type for event, _ in zip(stream, range(6), strict=False)][-1] == "content_block_delta"
    text: Any = {"format": {"name": "long", **held}}
    with gpt.responses.create(model="demo", input=QUESTION, max_output_tokens=1800, stream=True, text=text) as events:
        assert next(event for event in events if event.type == "response.output_text.delta")
    for _ in range(500):
        if metric(demo, flight) == 0:
            break
        time.sleep(0.02)
    assert metric(demo, flight) == 0
    assert 0 < metric(demo, drawn) - before < 3000
