"""The clients of Anthropic and OpenAI, as they are, through the gateway before each engine: messages and responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from .gateway import gateway_before
from .replica import Replica

QUESTION = "What is LLMService?"
ANSWER = "LLMService is a Kubernetes operator"
ASK = "What is the weather in Paris?"
USER: list[Any] = [{"role": "user", "content": QUESTION}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "get_weather", "description": "The weather in a city.", "input_schema": SCHEMA}
FUNCTION: Any = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}


@pytest.fixture(scope="module")
def base(replica: Replica) -> Iterator[str]:
    """The URL of a gateway that has the replica behind it."""
    with gateway_before(replica.url) as url:
        yield url


@pytest.fixture
def claude(base: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=base, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(base: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_message_is_the_same_whole_and_streamed(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "demo", "max_tokens": 100, "messages": USER, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(system="Be brief.", **asked)
    with claude.messages.stream(system=[{"type": "text", "text": "Be brief."}], **asked) as stream:
        pieces = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert pieces and whole.content[0].type == "text"
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
    assert "".join(deltas) == whole.output_text == streamed.output_text
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


def test_what_the_context_leaves_is_enough(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    """Clients of these protocols ask for as much as the largest model has; that is a bound, not a need."""
    message = claude.messages.create(
        model="demo", max_tokens=64_000, messages=USER, extra_body={"temperature": 0}, timeout=60
    )
    assert message.stop_reason == "end_turn"
    answer = gpt.responses.create(model="demo", input=QUESTION, temperature=0, max_output_tokens=64_000)
    assert answer.status == "completed" and answer.max_output_tokens == 64_000
