"""What every engine's HTTP API does, asked over a base URL: of an engine process, or of the gateway before it.

`for check in CHECKS: check(served)`. Nothing here knows which engine answers, or what it says.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai


@dataclass(frozen=True)
class Served:
    """Where a model answers: `url` without /v1, the name that clients send, and its context in tokens."""

    url: str
    model: str
    context_tokens: int

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def post(self, path: str, body: object) -> tuple[int, bytes, str]:
        """Status, body and content type."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers["Content-Type"]

    def complete(self, prompt: str, **fields: Any) -> Any:
        with self.client() as client:
            return client.completions.create(model=self.model, prompt=prompt, **fields)


def whole_answers_and_streams_are_alike(served: Served) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    fields: dict[str, Any] = {"model": served.model, "messages": messages, "max_tokens": 12, "temperature": 0}
    with served.client() as client:
        whole = client.chat.completions.create(**fields)
        text, last, usage = "", None, None
        for chunk in client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}):
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                last = chunk.choices[0].finish_reason or last
            usage = chunk.usage or usage
    assert text == whole.choices[0].message.content
    assert last == whole.choices[0].finish_reason
    assert usage and whole.usage and usage.completion_tokens == whole.usage.completion_tokens


def a_stream_is_made_of_events_that_end_with_done(served: Served) -> None:
    body = {"model": served.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "stream": True}
    status, raw, kind = served.post("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    assert status == 200 and kind.startswith("text/event-stream")
    assert raw.endswith(b"\n\n") and b"\r" not in raw
    events = [event for event in raw.split(b"\n\n")[:-1] if not event.startswith(b":")]
    assert all(event.startswith(b"data: ") for event in events) and events[-1] == b"data: [DONE]"
    chunks = [json.loads(event[6:]) for event in events[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 0
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1])


def as_many_tokens_come_as_were_asked_for(served: Served) -> None:
    answer = served.complete("abc", max_tokens=9, temperature=0, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 9 and answer.choices[0].finish_reason == "length"


def many_at_once_get_what_each_gets_alone(served: Served) -> None:
    def one(number: int) -> str:
        return str(served.complete(f"prompt {number}", max_tokens=16, temperature=0).choices[0].text)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(one, range(8)))
    assert together == [one(number) for number in range(8)]


def a_seed_gives_the_same_again_and_n_gives_n(served: Served) -> None:
    fields: dict[str, Any] = {"max_tokens": 12, "temperature": 1, "seed": 7, "n": 3}
    first, again = (served.complete("abc", **fields) for _ in range(2))
    texts = [choice.text for choice in first.choices]
    assert texts == [choice.text for choice in again.choices] and len(texts) == 3
    assert [choice.index for choice in first.choices] == [0, 1, 2]


def a_stop_string_ends_an_answer_and_is_not_in_it(served: Served) -> None:
    fields: dict[str, Any] = {"max_tokens": 24, "temperature": 0, "extra_body": {"ignore_eos": True}}
    text = served.complete("abc", **fields).choices[0].text
    stop = text[len(text) // 2 :][:2]
    assert stop, "the model says something"
    choice = served.complete("abc", stop=[stop], **fields).choices[0]
    assert choice.finish_reason == "stop" and choice.text == text[: text.index(stop)]


def logprobs_are_those_of_the_tokens(served: Served) -> None:
    found = served.complete("abc", max_tokens=4, temperature=0, logprobs=2).choices[0].logprobs
    assert found and len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) <= 4
    assert all(value <= 0 for value in found.token_logprobs)
    assert all(len(top) <= 3 for top in found.top_logprobs)


def logprobs_joined_are_the_text(served: Served) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    for fields in ({}, {"stop": ["e", "o "]}, {"stop": ["a"], "extra_body": {"include_stop_str_in_output": True}}):
        whole = served.complete("abc", max_tokens=24, temperature=1, seed=5, logprobs=1, **fields).choices[0]
        assert "".join(whole.logprobs.tokens) == whole.text
        with served.client() as client:
            chat: Any = {"model": served.model, "messages": messages, "max_tokens": 24, "logprobs": True, "seed": 5}
            chat |= fields
            choice = client.chat.completions.create(**chat).choices[0]
            assert choice.logprobs and choice.logprobs.content is not None
            assert "".join(entry.token for entry in choice.logprobs.content) == choice.message.content
            told = content = ""
            for chunk in client.chat.completions.create(**chat, stream=True):
                content += chunk.choices[0].delta.content or ""
                known = chunk.choices[0].logprobs
                told += "".join(entry.token for entry in (known.content if known else None) or [])
            assert told == content
    with served.client() as client:  # a stop string that comes first leaves no text, and so no tokens of it
        greedy: Any = {"model": served.model, "messages": messages, "max_tokens": 4, "logprobs": True, "temperature": 0}
        said = client.chat.completions.create(**greedy).choices[0].message.content or ""
        empty = client.chat.completions.create(**greedy, stop=[said[0]]).choices[0]
        assert not empty.message.content and empty.logprobs and empty.logprobs.content == []


def answers_are_held_to_a_schema_and_to_a_pattern(served: Served) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    with served.client() as client:
        schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["one", "two"]}}}
        answer = client.chat.completions.create(
            model=served.model, messages=messages, max_tokens=60, response_format=schema
        )
        assert json.loads(answer.choices[0].message.content or "") in ("one", "two")
        pattern = "[0-9]{3}-[a-f]{2}"
        held = client.chat.completions.create(
            model=served.model, messages=messages, max_tokens=60, extra_body={"structured_outputs": {"regex": pattern}}
        )
        assert re.fullmatch(pattern, held.choices[0].message.content or "")


def what_can_not_be_is_refused_by_name(served: Served) -> None:
    def refused(status: int, path: str, body: object) -> dict[str, Any]:
        code, raw, kind = served.post(path, body)
        assert code == status and kind.startswith("application/json"), (code, raw)
        error: dict[str, Any] = json.loads(raw)["error"]
        assert error["message"] and error["type"] and error["code"]
        return error

    body = {"model": served.model, "prompt": "x"}
    assert served.model in refused(404, "/v1/completions", {**body, "model": "no-such-model"})["message"]
    assert refused(400, "/v1/completions", {**body, "temperature": -1})["param"] == "temperature"
    assert "no_such_field" in str(refused(400, "/v1/completions", {**body, "no_such_field": 1}))
    refused(400, "/v1/completions", b"{")
    # A request that can never fit, whatever a token is.
    long = {**body, "prompt": "x " * 20 * served.context_tokens}
    assert f"{served.context_tokens}" in refused(400, "/v1/completions", long)["message"].replace(",", "")


def the_model_is_listed(served: Served) -> None:
    with served.client() as client:
        assert any(served.model in (model.id, model.id.rpartition("/")[2]) for model in client.models.list())


CHECKS: tuple[Callable[[Served], None], ...] = (
    whole_answers_and_streams_are_alike,
    a_stream_is_made_of_events_that_end_with_done,
    as_many_tokens_come_as_were_asked_for,
    many_at_once_get_what_each_gets_alone,
    a_seed_gives_the_same_again_and_n_gives_n,
    a_stop_string_ends_an_answer_and_is_not_in_it,
    logprobs_are_those_of_the_tokens,
    logprobs_joined_are_the_text,
    answers_are_held_to_a_schema_and_to_a_pattern,
    what_can_not_be_is_refused_by_name,
    the_model_is_listed,
)
