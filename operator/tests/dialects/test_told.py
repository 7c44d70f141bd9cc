"""Answers as the protocols tell them: golden events, the clients' own readers, and the same whole and streamed.

`LLMSERVICE_WRITE_GOLDEN=1` writes the golden files; read the difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from said import BEGUN, LAST, STORIES, Json, call, chunk  # type: ignore[import-not-found]

from llmservice_gateway.dialects.dialect import Answering, Teller
from llmservice_gateway.dialects.messages_answer import MessageTeller
from llmservice_gateway.dialects.ollama_answer import ChatTeller as OllamaTeller
from llmservice_gateway.dialects.parts import MOST, TooMuchError
from llmservice_gateway.dialects.pieces import CallBegun, CallGrew, Chunks
from llmservice_gateway.dialects.responses_answer import ResponseTeller
from llmservice_gateway.dialects.xinference import ChatTeller as XinferenceTeller
from llmservice_runtime.wire.errors import ApiError

GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("LLMSERVICE_WRITE_GOLDEN") == "1"
TELLERS: dict[str, Callable[[Answering], Teller]] = {"messages": MessageTeller, "responses": ResponseTeller}
MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ECHO = {"tools": [], "max_output_tokens": 50}


def teller(dialect: str) -> Teller:
    return TELLERS[dialect](Answering(dict(ECHO), "0", 1_700_000_000))


def told(dialect: str, chunks: Sequence[Json]) -> str:
    tells, reads = teller(dialect), Chunks()
    return "".join(tells.tell(piece) for one in chunks for piece in reads.read(one)) + tells.end()


def events(text: str) -> list[Json]:
    """Each has its name, and says it again."""
    found = []
    for event in text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        found.append(body)
    return found


def whole_of(chunks: Sequence[Json]) -> Json:
    """The whole answer of which these are the chunks."""
    message: Json = {"role": "assistant", "content": None}
    calls: dict[int, Json] = {}
    end: Json = {}
    for choice in (one["choices"][0] for one in chunks if one["choices"]):
        delta = choice["delta"]
        message["content"] = (message["content"] or "") + delta.get("content", "") or message["content"]
        if thought := delta.get("reasoning_content"):
            message["reasoning_content"] = message.get("reasoning_content", "") + thought
        for part in delta.get("tool_calls", ()):
            known = calls.setdefault(part["index"], {"function": {"arguments": ""}})
            known |= {key: value for key, value in part.items() if key in ("id", "type")}
            function = known["function"]
            function["name"] = part["function"].get("name", function.get("name"))
            function["arguments"] += part["function"]["arguments"]
        end = {name: choice.get(name) for name in ("finish_reason", "stop_reason")}
    if calls:
        message["tool_calls"] = list(calls.values())
    return {"model": "apps/demo", "choices": [{"index": 0, "message": message, **end}], "usage": LAST["usage"]}


def whole(dialect: str, chunks: Sequence[Json]) -> Json:
    return teller(dialect).whole(Chunks().read(whole_of(chunks)))


def gathered(dialect: str, text: str) -> Json:
    """What the client's own library makes of the events."""
    if dialect == "messages":
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        for body in events(text):
            event = MESSAGE_EVENT.validate_python(body)
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
        return dict(json.loads(snapshot.to_json()))
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    last: Any = None
    for body in events(text):
        (last, *_) = state.handle_event(RESPONSE_EVENT.validate_python(body)) or [last]
    return dict(json.loads(last.response.to_json()))


def without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        empty: tuple[Any, ...] = (None, [], {}, "")
        return {key: without_nothing(inner) for key, inner in value.items() if inner not in empty}
    return [without_nothing(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("dialect", TELLERS)
def test_events_are_the_golden_ones(dialect: str, story: str) -> None:
    file = GOLDEN / f"{dialect}-{story.replace(' ', '-')}.stream"
    text = told(dialect, STORIES[story])
    if WRITE:
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("dialect", TELLERS)
def test_an_answer_is_the_same_whole_and_streamed(dialect: str, story: str) -> None:
    chunks = STORIES[story]
    text = told(dialect, chunks)
    text.encode()
    said = whole(dialect, chunks)
    (Message if dialect == "messages" else Response).model_validate(said)
    if story != "half a pair":  # no text of Python's: the client joins it
        assert without_nothing(gathered(dialect, text)) == without_nothing(said)


def test_half_a_pair_arrives_with_its_other_half() -> None:
    text = "".join(
        one["delta"]["text"]
        for one in events(told("messages", STORIES["half a pair"]))
        if "delta" in one and "text" in one["delta"]
    )
    assert text.encode("utf-16", "surrogatepass").decode("utf-16") == "😀"


texts = st.text(min_size=1, max_size=8)


@st.composite
def answers(draw: st.DrawFn) -> list[Json]:
    """Thinking, text and calls, whose arguments come in turns."""
    chunks = [BEGUN]
    chunks += [chunk({"reasoning_content": text}) for text in draw(st.lists(texts, max_size=3))]
    chunks += [chunk({"content": text}) for text in draw(st.lists(texts, max_size=3))]
    left: list[list[Json]] = []
    for number in range(draw(st.integers(0, 4))):
        arguments = draw(st.sampled_from(["", "{}", '{"a": {"b": [1, "}"]}}', '{"city": "Ro\\"me"}', '{"cut": "o']))
        size = draw(st.integers(1, 5))
        pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
        begun = chunk(call(number, "", id=f"call_{number}", name="weather"))
        left.append([begun, *(chunk(call(number, piece)) for piece in pieces)])
    begun_calls = 0
    while any(left):
        may = [number for number, rest in enumerate(left) if rest and number <= begun_calls]
        number = draw(st.sampled_from(may))
        begun_calls = max(begun_calls, number + 1)
        chunks.append(left[number].pop(0))
    reason = "tool_calls" if left else draw(st.sampled_from(["stop", "length"]))
    return [*chunks, chunk(finish=reason), LAST]


@pytest.mark.parametrize("dialect", TELLERS)
@settings(max_examples=40, deadline=None)
@given(chunks=answers())
def test_whatever_turns_calls_come_in_clients_read_the_whole_answer(dialect: str, chunks: list[Json]) -> None:
    text = told(dialect, chunks)
    said, read = whole(dialect, chunks), gathered(dialect, text)
    assert without_nothing(read) == without_nothing(said)


@given(chunks=answers())
def test_blocks_come_one_after_the_other(chunks: list[Json]) -> None:
    open_block, begun = None, 0
    for event in events(told("messages", chunks)):
        match event["type"]:
            case "content_block_start":
                assert open_block is None and event["index"] == begun
                open_block, begun = begun, begun + 1
            case "content_block_delta":
                assert event["index"] == open_block
            case "content_block_stop":
                assert event["index"] == open_block
                open_block = None
            case "message_delta" | "message_stop":
                assert open_block is None


@pytest.mark.parametrize("dialect", TELLERS)
@pytest.mark.parametrize("after", [0, 2])
def test_a_stream_that_breaks_ends_with_the_protocols_error(dialect: str, after: int) -> None:
    tells, reads = teller(dialect), Chunks()
    text = "".join(tells.tell(piece) for one in STORIES["text"][:after] for piece in reads.read(one))
    text += tells.broken(ApiError(503, "Gone.", code="draining", kind="service_unavailable_error"))
    *before, last = events(text)
    assert last["type"] == "error" and last["error"]["message"] == "Gone."
    if dialect == "messages":
        assert last["error"]["type"] == "overloaded_error"
        assert last["error"]["details"] == {"error_code": "draining", "param": None}
    else:
        failed = [one for one in before if one["type"] == "response.failed"]
        assert len(failed) == bool(after) and last["code"] == last["error"]["code"] == "draining"


@pytest.mark.parametrize("dialect", TELLERS)
def test_what_engines_may_say_as_well_is_read_or_left_alone(dialect: str) -> None:
    odd: list[Any] = [
        {"model": 5, "choices": None},
        {"choices": [3, {"delta": None}, {"delta": {"content": 5, "tool_calls": [4, {"function": 3}, {"index": 9}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}], "usage": {}},
        {"choices": [{"delta": {"content": "x"}, "finish_reason": "strange"}], "usage": "much"},
    ]
    kinds = [one["type"] for one in events(told(dialect, odd))]
    assert kinds[-1] in ("message_stop", "response.completed")


@pytest.mark.parametrize("dialect", TELLERS)
def test_an_answer_without_end_is_not_kept(dialect: str) -> None:
    tells, reads = teller(dialect), Chunks()
    piece = chunk({"content": "x" * (MOST // 4)})
    with pytest.raises(TooMuchError):
        for _ in range(5):
            for one in reads.read(piece):
                tells.tell(one)


@pytest.mark.parametrize("grows", ["arguments", "name", "number"])
@pytest.mark.parametrize("make", [MessageTeller, ResponseTeller, OllamaTeller, XinferenceTeller])
def test_calls_without_end_are_not_kept(make: Callable[[Answering], Teller], grows: str) -> None:
    tells = make(Answering({"usage": False}, "0", 0))
    long = "x" * (MOST // 4) if grows != "number" else ""
    with pytest.raises(TooMuchError):
        for number in range(9 if long else MOST // 1000 + 2):
            tells.tell(CallBegun(number, "c", "f" + (long if grows == "name" else "")))
            tells.tell(CallGrew(number, "{" + (long if grows == "arguments" else "")))


def test_the_context_that_was_left_is_a_reason_of_its_own() -> None:
    tells, reads = MessageTeller(Answering({"unbounded": True}, "0", 0)), Chunks()
    said = tells.whole(reads.read(whole_of(STORIES["cut"])))
    assert said["stop_reason"] == "model_context_window_exceeded"
