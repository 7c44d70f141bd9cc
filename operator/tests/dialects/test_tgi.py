"""TGI's requests as plain completions, and answers as its client reads them. T: numbers of the facts that the client
was read for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmservice_gateway.dialects.apart import retell, translate
from llmservice_gateway.dialects.dialect import Answering, Dialect
from llmservice_gateway.dialects.pieces import Chunks
from llmservice_gateway.dialects.registry import TGI_GENERATE, TGI_ROOT, TGI_STREAM
from llmservice_runtime.openai.requests.completion import CompletionRequest
from llmservice_runtime.openai.requests.parse import parse
from llmservice_runtime.wire.body import bound_parts
from llmservice_runtime.wire.errors import ApiError

Json = dict[str, Any]
TOKENS = {"logprobs": 0, "return_token_ids": True}
STREAM = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}, **TOKENS}
PLAIN = {"prompt": "Hi", "max_tokens": 100, "temperature": 0}
SCHEMA = {"type": "object"}


def said(dialect: Dialect, parameters: Json | None = None, **fields: Any) -> Json:
    body = {"inputs": "Hi", **fields, **({} if parameters is None else {"parameters": parameters})}
    found: Json = json.loads(translate(dialect, json.dumps(body).encode()).body)
    return found


@pytest.mark.parametrize(
    ("parameters", "completion"),
    [
        (None, PLAIN),
        ({"max_new_tokens": 20, "do_sample": False, "stop": [], "watermark": False}, {**PLAIN, "max_tokens": 20}),
        ({"do_sample": True}, {"prompt": "Hi", "max_tokens": 100}),
        ({"temperature": 0.5, "seed": 3}, {"prompt": "Hi", "max_tokens": 100, "temperature": 0.5, "seed": 3}),
        ({"top_k": 5, "top_p": 0.5}, {"prompt": "Hi", "max_tokens": 100, "top_k": 5, "top_p": 0.5}),
        ({"stop": ["x"]}, {**PLAIN, "stop": ["x"], "include_stop_str_in_output": True}),
        ({"details": True, "best_of": 1}, {**PLAIN, **TOKENS}),
        ({"grammar": {"type": "json", "value": SCHEMA}}, {**PLAIN, "structured_outputs": {"json": SCHEMA}}),
        ({"grammar": {"type": "regex", "value": "a+"}}, {**PLAIN, "structured_outputs": {"regex": "a+"}}),
    ],
)  # fmt: skip
def test_the_parameters_of_a_generation(parameters: Json | None, completion: Json) -> None:
    assert said(TGI_GENERATE, parameters) == completion
    assert said(TGI_ROOT, parameters, stream=True) == {**completion, **STREAM}  # T1
    assert said(TGI_STREAM, parameters) == {**completion, **STREAM}
    for dialect in (TGI_GENERATE, TGI_STREAM):
        parse(CompletionRequest, json.dumps(said(dialect, parameters)).encode())


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"inputs": ""}, "inputs"),
        ({}, "inputs"),
        ({"inputs": "Hi", "parameters": {"best_of": 2}}, "parameters.best_of"),
        ({"inputs": "Hi", "parameters": {"typical_p": 0.5}}, "parameters.typical_p"),
        ({"inputs": "Hi", "parameters": {"truncate": 5}}, "parameters.truncate"),
        ({"inputs": "Hi", "parameters": {"top_n_tokens": 5}}, "parameters.top_n_tokens"),
        ({"inputs": "Hi", "parameters": {"watermark": True}}, "parameters.watermark"),
        ({"inputs": "Hi", "parameters": {"grammar": {"type": "json", "value": 5}}}, "parameters.grammar.value"),
        ({"inputs": "Hi", "parameters": {"odd": 5}}, "parameters.odd"),
        ({"inputs": "Hi", "stream": True}, "stream"),
        ({"inputs": "Hi", "parameters": {"decoder_input_details": 1}}, "parameters.decoder_input_details"),
    ],
)
def test_what_has_no_counterpart_is_named(body: Json, names: str) -> None:
    with pytest.raises(ApiError) as caught:
        translate(TGI_GENERATE, json.dumps(body).encode())
    assert caught.value.status == 400 and caught.value.param == names and f"`{names}`" in caught.value.message


def choice(text: str, finish: str | None = None, stop: str | None = None) -> Json:
    probs = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{}], "text_offset": [0]} if text else None
    return {"index": 0, "text": text, "logprobs": probs, "finish_reason": finish, "stop_reason": stop}


def known(told: Json, tokens: list[int], positions: list[int]) -> Json:
    """A choice that tells the ids of its tokens, and of those with a text."""
    probs = {**told["logprobs"], "token_ids": positions} if told["logprobs"] else None
    return {**told, "token_ids": tokens, "logprobs": probs}


def token(number: int, text: str, logprob: float | None = None) -> Json:
    return {"id": number, "text": text, "logprob": logprob, "special": not text}


USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("finish", "stop", "reason"),
    [("stop", None, "eos_token"), ("stop", "END", "stop_sequence"), ("length", None, "length")],
)
def test_a_whole_answer_has_its_details(finish: str, stop: str | None, reason: str) -> None:
    """T2."""
    said = known(choice("Hello", finish, stop), [7, 2] if finish == "stop" and not stop else [7], [7])
    whole = json.dumps({"choices": [said], "usage": USAGE}).encode()
    echo = translate(TGI_ROOT, b'{"inputs": "Hi", "parameters": {"details": true, "return_full_text": true}}').echo
    (told,) = json.loads(retell(TGI_ROOT, Answering(echo, "0", 0), whole))
    assert told["generated_text"] == "HiHello"
    details = told["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["prefill"]) == (reason, 2, [])
    assert details["tokens"] == [token(7, "Hello", -0.5), *([token(2, "")] if reason == "eos_token" else [])]
    plain = translate(TGI_GENERATE, b'{"inputs": "Hi"}').echo
    assert json.loads(retell(TGI_GENERATE, Answering(plain, "0", 0), whole)) == {"generated_text": "Hello"}


@pytest.mark.parametrize("end", [None, "", "</s>"])
@pytest.mark.parametrize("way", ["echoed", "special"])
def test_the_prompts_tokens_are_told_apart_from_the_answers(way: str, end: str | None) -> None:
    """Special ones of the prompt, and what ended the answer, have a place among the tokens, and none in the text, at
    some engines."""
    first = "<s>" if way == "special" else ""
    said: Json = choice("Hi there")
    said["logprobs"] |= {"tokens": [first, "Hi", " there"], "token_logprobs": [None, -1.0, -0.5]}
    if end is not None:
        said["logprobs"]["tokens"].append(end)
        said["logprobs"]["token_logprobs"].append(-0.25)
    places = [1, 8, 9, *([2] * (end is not None))]
    said = {**known(said, [9, 2], places), "finish_reason": "stop", "prompt_token_ids": [1, 8]}
    asked = translate(TGI_GENERATE, b'{"inputs": "Hi", "parameters": {"decoder_input_details": true}}')
    assert json.loads(asked.body) == {**PLAIN, **TOKENS, "echo": True}
    parse(CompletionRequest, asked.body)
    whole = json.dumps({"choices": [said], "usage": USAGE}).encode()
    told = json.loads(retell(TGI_GENERATE, Answering(asked.echo, "0", 0), whole))
    assert told["generated_text"] == " there"
    prefill = [{"id": 1, "text": first, "logprob": None}, {"id": 8, "text": "Hi", "logprob": -1.0}]
    assert told["details"]["prefill"] == prefill
    assert told["details"]["tokens"] == [token(9, " there", -0.5), token(2, "")]
    with pytest.raises(ApiError, match="POST to /generate"):
        translate(TGI_STREAM, b'{"inputs": "Hi", "parameters": {"decoder_input_details": true}}')


def test_a_prompt_may_have_as_many_tokens_as_contexts_hold() -> None:
    """Its answer has more parts than a request may."""
    many = 180_000
    logprobs = {
        "tokens": ["Hi"] * (many + 1),
        "token_logprobs": [-0.5] * (many + 1),
        "top_logprobs": [{"Hi": -0.5}] * (many + 1),
        "token_ids": [7] * (many + 1),
    }
    said = {**choice("Hi" * (many + 1), "length"), "token_ids": [7], "prompt_token_ids": [7] * many}
    whole = json.dumps({"choices": [{**said, "logprobs": logprobs}], "usage": USAGE}).encode()
    with pytest.raises(ApiError):
        bound_parts(whole)
    echo = translate(TGI_GENERATE, b'{"inputs": "Hi", "parameters": {"decoder_input_details": true}}').echo
    details = json.loads(retell(TGI_GENERATE, Answering(echo, "0", 0), whole))["details"]
    assert (len(details["prefill"]), len(details["tokens"])) == (many, 1)


def events_of(*chunks: Json) -> list[Json]:
    """What a stream of these choices is told as."""
    assert TGI_STREAM.teller is not None
    tells, reads = TGI_STREAM.teller(Answering({"seed": 3}, "0", 0)), Chunks()
    pieces = (piece for one in chunks for piece in reads.read({"choices": [one], "usage": USAGE}))
    text = "".join(map(tells.tell, pieces)) + tells.end()
    return [json.loads(event.removeprefix("data:")) for event in text.split("\n\n")[:-1]]


def test_tokens_without_a_text_are_told_where_they_stand() -> None:
    """Parts of a character, special ones, and what ends an answer; text may come later than its tokens."""
    late = choice("Hello")
    late["logprobs"] |= {"tokens": ["", "Hel", "lo"], "token_logprobs": [-0.5, -0.25, -0.125]}
    events = events_of(
        {**known(choice(""), [4], []), "prompt_token_ids": [1]},
        known(late, [5, 70, 6], [4, 5, 6]),
        known(choice("", "stop"), [2], []),
    )
    assert [event["token"]["id"] for event in events] == [4, 5, 70, 6, 2]
    assert [event["token"]["text"] for event in events] == ["", "Hel", "", "lo", ""]
    assert [event["token"]["special"] for event in events] == [False, False, True, False, True]
    assert [event["generated_text"] for event in events] == [None] * 4 + ["Hello"]


def test_a_stream_has_an_event_for_each_token() -> None:
    """T3, T4."""
    assert TGI_STREAM.teller is not None
    two = choice("Hello")
    two["logprobs"] |= {"tokens": ["Hel", "lo"], "token_logprobs": [-0.5, -0.25]}
    first, second, last = events_of(known(two, [5, 6], [5, 6]), choice("", "length"))
    assert first["token"] == token(5, "Hel", -0.5)
    assert second["token"] == token(6, "lo", -0.25) and second["generated_text"] is None and second["details"] is None
    assert last["token"] == token(-1, "", 0.0) and last["generated_text"] == "Hello"
    tells = TGI_STREAM.teller(Answering({"seed": 3}, "0", 0))
    assert last["details"] == {"finish_reason": "length", "generated_tokens": 2, "input_length": 9, "seed": 3}
    gone = tells.broken(ApiError(429, "Full.", code="queue_full"))
    assert json.loads(gone.removeprefix("data:")) == {"error": "Full.", "error_type": "overloaded"}
