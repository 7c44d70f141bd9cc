"""What Dify's providers send and how they read answers, against the real gateway before real engines.

Its plug-ins need a running Dify; what they do with an address is said here once more, from their source, by the numbers
of the facts that they were read for (D1 to D42).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import requests
from machine_world import Here, until  # type: ignore[import-not-found]
from xinference_client.client.restful.restful_client import (
    RESTfulEmbeddingModelHandle,
    RESTfulRerankModelHandle,
)

pytestmark = pytest.mark.engine
Json = dict[str, Any]
TIMEOUT = (10, 300)
PING: list[Json] = [{"role": "user", "content": "ping"}]
QUESTION: list[Json] = [{"role": "user", "content": "What is LLMService?"}]
ANSWER = "LLMService is a Kubernetes operator"
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Json = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": SCHEMA},
}
WEATHER: list[Json] = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture
def base(zoo: Here) -> str:
    """What the form of the OpenAI-API-compatible provider has as API Base URL."""
    return str(zoo.snapshot()["url"])


@pytest.fixture
def root(base: str) -> str:
    """What the forms of the other providers have."""
    return base.removesuffix("/v1")


def post(url: str, body: Json, *, stream: bool = False) -> requests.Response:
    return requests.post(url, json=body, timeout=TIMEOUT, stream=stream)


@dataclass
class Read:
    """What the compatible provider makes of a stream."""

    text: str = ""
    finish_reason: str | None = None
    usage: Json = field(default_factory=dict)
    calls: list[Json] = field(default_factory=list)


def read(response: requests.Response) -> Read:
    """Events end with two line feeds; comments are skipped; what else is no JSON is an error (S1 to S4, D6 to D9)."""
    assert response.status_code == 200
    found = Read()
    event: str
    for event in response.iter_lines(decode_unicode=True, delimiter="\n\n"):  # type: ignore[assignment]
        if not event.strip() or event.startswith(":"):
            continue
        data = event.strip().removeprefix("data:").lstrip()
        if data == "[DONE]":
            continue
        chunk = json.loads(data)
        assert "error" not in chunk and "choices" in chunk
        found.usage = chunk.get("usage") or found.usage
        for choice in chunk["choices"]:
            assert found.finish_reason is None, "nothing with a choice after it"
            found.finish_reason = choice["finish_reason"]
            delta = choice.get("delta") or {"content": choice.get("text")}
            found.text += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                merged(found.calls, call)
    return found


def merged(calls: list[Json], call: Json) -> None:
    """Without an id it goes on with the last call; a name comes with an id."""
    function = call["function"]
    if call.get("id"):
        calls.append({"id": call["id"], "name": function["name"], "arguments": ""})
    calls[-1]["arguments"] += function.get("arguments") or ""


def test_the_compatible_provider_validates_a_model(base: str) -> None:
    """D1 to D5."""
    chat = post(f"{base}/chat/completions", {"model": "demo", "max_tokens": 5, "messages": PING})
    assert chat.status_code == 200 and chat.json()["object"] == "chat.completion"
    plain = post(f"{base}/completions", {"model": "demo", "max_tokens": 5, "prompt": "ping"})
    assert plain.status_code == 200 and plain.json()["object"] == "text_completion"
    streamed = {"model": "demo", "max_tokens": 10, "messages": PING, "stream": True}
    assert read(post(f"{base}/chat/completions", streamed, stream=True)).finish_reason
    newer = post(f"{base}/chat/completions", {"model": "demo", "max_completion_tokens": 16, "messages": PING})
    assert newer.status_code == 200


@pytest.mark.parametrize("model", ["demo", "cold"])
def test_the_compatible_provider_streams(zoo: Here, base: str, model: str) -> None:
    """D6 to D8, from a model that is not in memory as well."""
    if model == "cold":
        until(lambda: zoo.service("cold")["object"]["status"]["readyReplicas"] == 0)
    body = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 100, "user": "abc", "stream": True}
    found = read(post(f"{base}/chat/completions", {**body, "stream_options": {"include_usage": True}}, stream=True))
    assert found.text.startswith(ANSWER) and found.finish_reason == "stop" and found.usage["total_tokens"] > 5
    without = read(post(f"{base}/chat/completions", body, stream=True))
    assert without.text == found.text and not without.usage


@pytest.mark.parametrize("stream", [False, True])
def test_the_compatible_provider_calls_tools(base: str, stream: bool) -> None:
    """D9."""
    body = {"model": "demo", "messages": WEATHER, "tools": [TOOL], "tool_choice": "required", "max_tokens": 200}
    response = post(f"{base}/chat/completions", {**body, "temperature": 0, "stream": stream}, stream=stream)
    if stream:
        (call,) = read(response).calls
    else:
        (told,) = response.json()["choices"][0]["message"]["tool_calls"]
        call = {"id": told["id"], **told["function"]}
    assert call["name"] == "get_weather" and json.loads(call["arguments"])["city"] in ("Paris", "Rome")
    said = {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
    turns = [*WEATHER, {"role": "assistant", "content": "", "tool_calls": [said]}]
    turns.append({"role": "tool", "content": "21 degrees", "tool_call_id": call["id"], "name": "get_weather"})
    again = post(f"{base}/chat/completions", {"model": "demo", "messages": turns, "tools": [TOOL], "max_tokens": 50})
    assert again.status_code == 200, again.text


@pytest.mark.parametrize("held", [SCHEMA, {"name": "place", "schema": SCHEMA, "strict": True}])
def test_the_compatible_provider_sends_a_schema_as_the_user_wrote_it(base: str, held: Json) -> None:
    """D10, R4."""
    body = {"model": "demo", "messages": WEATHER, "max_tokens": 100}
    answer = post(
        f"{base}/chat/completions", {**body, "response_format": {"type": "json_schema", "json_schema": held}}
    ).json()
    assert json.loads(answer["choices"][0]["message"]["content"])["city"] in ("Paris", "Rome")


def test_the_compatible_providers_extra_settings_are_taken(base: str) -> None:
    """D11, R5."""
    extra: Json = {
        "chat_template_kwargs": {"enable_thinking": False, "thinking": False},
        "thinking": {"type": "disabled"},
        "enable_thinking": False,
    }
    answer = post(f"{base}/chat/completions", {"model": "demo", "messages": PING, "max_tokens": 5, **extra})
    assert answer.status_code == 200, answer.text


def test_the_compatible_provider_embeds(base: str, root: str) -> None:
    """D12; D40: LocalAI's provider asks without /v1, and chats by OpenAI's client."""
    for url in (f"{base}/embeddings", f"{root}/embeddings"):
        for more in ({}, {"encoding_format": "float"}):
            body = post(url, {"model": "vectors", "input": ["ping", "pong"], **more}).json()
            assert [len(each["embedding"]) for each in body["data"]] == [384, 384]
            assert body["usage"]["total_tokens"] > 2
    with openai.OpenAI(base_url=f"{root}/v1", api_key="1", max_retries=0) as client:
        said = client.chat.completions.create(model="demo", messages=PING, max_tokens=10)  # type: ignore[arg-type]
        assert said.usage is not None and said.choices[0].message.content


def test_the_compatible_provider_reranks(base: str, root: str) -> None:
    """D13: the threshold is applied to the score as it comes; D40."""
    documents = ["Carson City is the capital of Nevada.", "Saipan is an island.", "Washington is the capital."]
    body: Json = {"model": "scores", "query": "What is the capital?", "documents": documents, "top_n": 3}
    for url in (f"{base}/rerank", f"{root}/rerank"):
        results = post(url, body).json()["results"]
        assert sorted(row["index"] for row in results) == [0, 1, 2]
        scores = [row["relevance_score"] for row in results]
        assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)


def test_the_xinference_provider_finds_and_asks_models(zoo: Here, root: str) -> None:
    """D20 to D22: what a model can is asked first, within 10 s, and of one at zero too."""
    until(lambda: zoo.service("cold")["object"]["status"]["readyReplicas"] == 0)
    told = requests.get(f"{root}/v1/models/default.cold", timeout=10).json()
    assert told["model_type"] == "LLM" and {"chat", "tools"} <= set(told["model_ability"])
    assert told["context_length"] > 0 and told["model_format"] and told["model_family"] and told["max_tokens"]
    kinds = {"default.vectors": "embedding", "default.scores": "rerank"}
    for uid, kind in kinds.items():
        assert requests.get(f"{root}/v1/models/{uid}", timeout=10).json()["model_type"] == kind
    with openai.OpenAI(base_url=f"{root}/v1", api_key="abc", max_retries=3, timeout=60) as client:
        asked: Any = {"model": "default.cold", "messages": QUESTION, "temperature": 0.01, "max_tokens": 100}
        stream = client.chat.completions.create(**asked, stream=True)
        assert "".join(each.choices[0].delta.content or "" for each in stream if each.choices).startswith("LLMService")
        asked |= {"messages": WEATHER, "tools": [TOOL], "tool_choice": "required"}
        chunks = [each.choices[0] for each in client.chat.completions.create(**asked, stream=True) if each.choices]
    read_by_dify = [each for each in chunks if each.delta.content or each.finish_reason is not None]
    calls = [call for each in read_by_dify for call in each.delta.tool_calls or ()]
    assert [call.function and call.function.name for call in calls] == ["get_weather"], "S14"
    vectors = RESTfulEmbeddingModelHandle("default.vectors", root, auth_headers={}).create_embedding(["ping"])
    assert len(vectors["data"][0]["embedding"]) == 384 and vectors["usage"]["total_tokens"]
    handle = RESTfulRerankModelHandle("default.scores", root, auth_headers={})
    ranked = handle.rerank(documents=["a", "b"], query="q", top_n=1, return_documents=True)
    (row,) = ranked["results"]
    assert row["document"]["text"] in ("a", "b") and 0 <= row["relevance_score"] <= 1


@pytest.mark.parametrize("mode", ["chat", "completion"])
def test_the_ollama_provider_validates_and_streams(root: str, mode: str) -> None:
    """D30 to D32."""
    path, asked = ("chat", {"messages": PING}) if mode == "chat" else ("generate", {"prompt": "ping", "images": []})
    ping = post(f"{root}/api/{path}", {"model": "demo", "stream": False, "options": {"num_predict": 5}, **asked})
    assert ping.status_code == 200 and ping.json()["prompt_eval_count"] and ping.json()["eval_count"] == 5
    question = {"messages": QUESTION} if mode == "chat" else {"prompt": QUESTION[0]["content"]}
    options = {"temperature": 0.0, "num_predict": 100, "num_ctx": 1024, "mirostat": 0, "stop": ["Finland"]}
    body: Json = {"model": "demo", "stream": True, "options": options, "keep_alive": "5m", "think": False, **question}
    lines = list(ndjson(post(f"{root}/api/{path}", body, stream=True)))
    text = "".join(line["message"]["content"] if mode == "chat" else line["response"] for line in lines)
    assert text.startswith(ANSWER)
    last = lines[-1]
    assert last["done"] and last["prompt_eval_count"] > 0 and last["eval_count"] > 5 and last["model"] == "demo"
    held = post(f"{root}/api/{path}", {"model": "demo", "stream": False, "format": SCHEMA, **question}).json()
    said = held["message"]["content"] if mode == "chat" else held["response"]
    assert json.loads(said)["city"] in ("Paris", "Rome")


def test_the_ollama_provider_calls_tools(root: str) -> None:
    """D31: arguments are an object."""
    body: Json = {"model": "demo", "messages": WEATHER, "tools": [TOOL], "options": {"temperature": 0}, "stream": True}
    calls = [
        call
        for line in ndjson(post(f"{root}/api/chat", body, stream=True))
        for call in (line.get("message") or {}).get("tool_calls") or ()
    ]
    assert [call["function"]["name"] for call in calls] == ["get_weather"]
    assert calls[0]["function"]["arguments"]["city"] in ("Paris", "Rome") and calls[0]["function"]["index"] == 0


def ndjson(response: requests.Response) -> Iterator[Json]:
    assert response.status_code == 200, response.text
    response.encoding = "utf-8"
    for line in response.iter_lines(decode_unicode=True, delimiter="\n"):
        if line:
            yield json.loads(line)


def test_the_ollama_provider_embeds_and_reranks(root: str) -> None:
    """D33."""
    body = post(f"{root}/api/embed", {"input": ["ping"], "model": "vectors", "options": {"use_mmap": True}}).json()
    assert [len(each) for each in body["embeddings"]] == [384]
    ranked = post(f"{root}/api/rerank", {"model": "scores", "query": "q", "documents": ["a", "b"], "top_n": 1}).json()
    (row,) = ranked["results"]
    assert row["document"] in ("a", "b") and 0 <= row["relevance_score"] <= 1


def test_what_is_wrong_is_said_to_dify(base: str, root: str) -> None:
    """D14: users saw bare statuses."""
    missing = post(f"{base}/chat/completions", {"model": "nobody", "messages": PING})
    assert missing.status_code == 404 and "Served here: default/cold" in missing.text
    assert "Served here" in post(f"{root}/api/chat", {"model": "nobody", "messages": PING}).json()["error"]
    assert "Served here" in requests.get(f"{root}/v1/models/nobody", timeout=10).json()["detail"]
    assert "/v1/embeddings" in post(f"{base}/chat/completions", {"model": "vectors", "messages": PING}).text
    assert "There is no POST" in post(f"{base}/v1/chat/completions", {"model": "demo", "messages": PING}).text
