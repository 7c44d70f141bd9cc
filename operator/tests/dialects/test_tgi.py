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
from llmservice_runtime.wire.errors import ApiError

Json = dict[str, Any]
STREAM = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}, "logprobs": 0}
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
        ({"details": True, "best_of": 1}, {**PLAIN, "logprobs": 0}),
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
    ],
)
def test_what_has_no_counterpart_is_named(body: Json, names: str) -> None:
    with pytest.raises(ApiError) as caught:
        translate(TGI_GENERATE, json.dumps(body).encode())
    assert caught.value.status == 400 and caught.value.param == names and f"`{names}`" in caught.value.message


def choice(text: str, finish: str | None = None, stop: str | None = None) -> Json:
    probs = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{}], "text_offset": [0]} if text else None
    return {"index": 0, "text": text, "logprobs": probs, "finish_reason": finish, "stop_reason": stop}


USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("finish", "stop", "reason"),
    [("stop", None, "eos_token"), ("stop", "END", "stop_sequence"), ("length", None, "length")],
)
def test_a_whole_answer_has_its_details(finish: str, stop: str | None, reason: str) -> None:
    """T2."""
    whole = json.dumps({"choices": [choice("Hello", finish, stop)], "usage": USAGE}).encode()
    echo = translate(TGI_ROOT, b'{"inputs": "Hi", "parameters": {"details": true, "return_full_text": true}}').echo
    (told,) = json.loads(retell(TGI_ROOT, Answering(echo, "0", 0), whole))
    assert told["generated_text"] == "HiHello"
    details = told["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["prefill"]) == (reason, 2, [])
    assert details["tokens"] == [{"id": -1, "text": "Hello", "logprob": -0.5, "special": False}]
    plain = translate(TGI_GENERATE, b'{"inputs": "Hi"}').echo
    assert json.loads(retell(TGI_GENERATE, Answering(plain, "0", 0), whole)) == {"generated_text": "Hello"}


def test_a_stream_has_an_event_for_each_token() -> None:
    """T3, T4."""
    assert TGI_STREAM.teller is not None
    two = choice("Hello")
    two["logprobs"] |= {"tokens": ["Hel", "lo"], "token_logprobs": [-0.5, -0.25]}
    tells, reads = TGI_STREAM.teller(Answering({"seed": 3}, "0", 0)), Chunks()
    chunks = [{"choices": [two], "usage": USAGE}, {"choices": [choice("", "stop")], "usage": USAGE}]
    text = "".join(tells.tell(piece) for one in chunks for piece in reads.read(one)) + tells.end()
    first, second, last = (json.loads(event.removeprefix("data:")) for event in text.split("\n\n")[:-1])
    assert first["token"] == {"id": -1, "text": "Hel", "logprob": -0.5, "special": False}
    assert second["token"]["text"] == "lo" and second["generated_text"] is None and second["details"] is None
    assert last["token"]["special"] and last["generated_text"] == "Hello"
    assert last["details"] == {"finish_reason": "eos_token", "generated_tokens": 2, "input_length": 9, "seed": 3}
    gone = tells.broken(ApiError(429, "Full.", code="queue_full"))
    assert json.loads(gone.removeprefix("data:")) == {"error": "Full.", "error_type": "overloaded"}
