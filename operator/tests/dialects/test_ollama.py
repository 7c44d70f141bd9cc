"""Ollama's requests as those of a replica, and answers as Ollama's client reads them. Numbers are those of the facts
that the clients were read for: A of Ollama, D of Dify."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama import ChatResponse, EmbedResponse, GenerateResponse
from said import STORIES, Json  # type: ignore[import-not-found]

from llmservice_gateway.dialects.apart import retell, translate
from llmservice_gateway.dialects.dialect import Answering, Dialect
from llmservice_gateway.dialects.pieces import Chunks
from llmservice_gateway.dialects.registry import (
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_EMBEDDINGS,
    OLLAMA_GENERATE,
    OLLAMA_RERANK,
)
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.completion import CompletionRequest
from llmservice_runtime.openai.requests.parse import parse
from llmservice_runtime.openai.requests.pooling import EmbeddingRequest, RerankRequest
from llmservice_runtime.wire.errors import ApiError

USER = {"role": "user", "content": "Hi"}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "How it is.", "parameters": SCHEMA}}
PNG = "iVBORw0KGgo="


def said(dialect: Dialect, **fields: Any) -> Json:
    found: Json = json.loads(translate(dialect, json.dumps({"model": "demo", **fields}).encode()).body)
    return found


def refused(dialect: Dialect, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        said(dialect, **fields)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("fields", "chat"),
    [
        ({}, STREAM),  # A2: a stream unless it is refused
        ({"stream": False}, {}),
        ({"stream": False, "options": {"num_predict": 5}}, {"max_tokens": 5}),  # D30
        ({"stream": False, "options": {"num_predict": -1, "seed": -1}, "keep_alive": "5m"}, {}),  # D32
        ({"stream": False, "options": {"seed": 0, "stop": "x", "temperature": 0}},
         {"seed": 0, "stop": ["x"], "temperature": 0}),
        ({"stream": False, "options": {"top_k": 4, "top_p": 0.5, "min_p": 0.1, "repeat_penalty": 1.2, "stop": []}},
         {"top_k": 4, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.2}),
        ({"stream": False, "options": {"use_mmap": True, "num_gpu": 1, "mirostat": 0, "tfs_z": 1}}, {}),
        ({"stream": False, "options": {"repeat_last_n": 64}}, {}),
        ({"stream": False, "format": "json"}, {"response_format": {"type": "json_object"}}),
        ({"stream": False, "format": ""}, {}),
        ({"stream": False, "format": SCHEMA},
         {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}}),
        ({"stream": False, "think": True}, {"thinking": {"type": "enabled"}}),
        ({"stream": False, "think": False}, {"thinking": {"type": "disabled"}}),
        ({"stream": False, "think": "low"}, {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
        ({"stream": False, "logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"stream": False, "tools": [TOOL]}, {"tools": [TOOL]}),
        ({"tools": [TOOL]}, {"tools": [TOOL], **STREAM}),  # A5: tools leave streams alone
        ({"stream": False, "truncate": False, "shift": False}, {}),
    ],
)  # fmt: skip
def test_the_fields_of_a_chat(fields: Json, chat: Json) -> None:
    body = said(OLLAMA_CHAT, messages=[USER], **fields)
    assert body == {"model": "demo", "messages": [USER], **chat}
    parse(ChatRequest, json.dumps(body).encode())


def test_messages_with_pictures_thinking_and_calls() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Röm"}}}
    body = said(
        OLLAMA_CHAT,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is it?", "images": [PNG]},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call, call]},
            {"role": "tool", "content": "21", "tool_name": "weather"},
            {"role": "tool", "content": "22"},
        ],
        stream=False,
    )
    system, user, model, first, second = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    url = {"url": f"data:image/png;base64,{PNG}"}
    assert user["content"] == [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]
    assert model["reasoning_content"] == "Hm." and model["content"] is None
    ids = [one["id"] for one in model["tool_calls"]]
    assert len(set(ids)) == 2 and [first["tool_call_id"], second["tool_call_id"]] == ids
    assert json.loads(model["tool_calls"][0]["function"]["arguments"]) == {"city": "Röm"}
    assert (first["content"], second["content"]) == ("21", "22")


def test_results_belong_to_the_call_that_they_name_else_to_the_first_one() -> None:
    calls = [{"id": f"{name}{n}", "function": {"name": name}} for n in (1, 2) for name in ("a", "b")]
    named = [{"tool_call_id": "b1"}, {"tool_name": "b"}, {}, {"tool_call_id": "gone", "name": "a"}]
    messages = [{"role": "assistant", "tool_calls": calls}, *({"role": "tool", **one} for one in named)]
    results = said(OLLAMA_CHAT, messages=messages)["messages"][1:]
    assert [one["tool_call_id"] for one in results] == ["b1", "b2", "a1", "a2"]
    with pytest.raises(ApiError, match="no call before it"):
        said(OLLAMA_CHAT, messages=[*messages, {"role": "tool"}])


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"options": {"num_predictt": 5}}, "options.num_predictt"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"typical_p": 0.5}}, "options.typical_p"),
        ({"options": {"num_keep": 4}}, "options.num_keep"),
        ({"options": {"repeat_penalty": 1.2, "repeat_last_n": 64}}, "options.repeat_last_n"),
        ({"options": {"stop": [1]}}, "options.stop"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"truncate": True}, "truncate"),
        ({"think": "much"}, "think"),
        ({"format": "yaml"}, "format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": [{"role": "tool", "content": "21"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "", "images": ["AAAA"]}]}, "messages.0.images.0"),
        ({"messages": [{"role": "judge", "content": ""}]}, "messages.0.role"),
        ({"messages": [], "keep_alive": 0}, "keep_alive"),
        ({"frobnicate": 1}, "frobnicate"),
    ],
)
def test_what_has_no_counterpart_is_named(fields: Json, names: str) -> None:
    error = refused(OLLAMA_CHAT, **{"messages": [USER], **fields})
    assert error.param == names and f"`{names}`" in error.message


def test_a_context_that_is_asked_for_is_told_apart() -> None:
    """A5: num_ctx is neither ignored nor an order; the gateway compares it with what the service has."""
    found = translate(OLLAMA_CHAT, json.dumps({"messages": [USER], "options": {"num_ctx": 8192}}).encode())
    assert (found.context_tokens, found.context_field) == (8192, "options.num_ctx")


def test_a_prompt_is_a_turn_of_chat_or_raw() -> None:
    body = said(OLLAMA_GENERATE, prompt="Hi", system="Be brief.", stream=False, images=[], suffix="", context=[])
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, USER]
    found = translate(
        OLLAMA_GENERATE,
        json.dumps({"prompt": "Hi", "raw": True, "stream": False, "options": {"num_predict": 9}}).encode(),
    )
    assert found.path == "/v1/completions" and json.loads(found.body) == {"prompt": "Hi", "max_tokens": 9}
    parse(CompletionRequest, found.body)
    assert refused(OLLAMA_GENERATE, prompt="Hi", raw=True).param == "options.num_predict"
    for fields in ({"suffix": "x"}, {"template": "x"}, {"context": [1]}, {"raw": True, "system": "x"}, {"width": 5}):
        assert refused(OLLAMA_GENERATE, prompt="Hi", **fields).param in fields


@pytest.mark.parametrize("dialect", [OLLAMA_CHAT, OLLAMA_GENERATE])
def test_a_request_for_nothing_loads_the_model(dialect: Dialect) -> None:
    found = translate(dialect, json.dumps({"model": "demo"}).encode())
    assert found.path == "/tokenize" and found.asked.sequences == 0 and not found.asked.streams
    told = json.loads(retell(dialect, Answering(found.echo, "0", 1_700_000_000), b'{"count": 1}'))
    assert told["done"] and told["done_reason"] == "load" and told["model"] == "demo"


def test_vectors_and_scores() -> None:
    """D33."""
    body = said(OLLAMA_EMBED, input=["ping"], options={"use_mmap": True}, truncate=True, dimensions=4)
    assert body == {"model": "demo", "input": ["ping"], "truncate_prompt_tokens": -1, "dimensions": 4}
    parse(EmbeddingRequest, json.dumps(body).encode())
    assert said(OLLAMA_EMBED, input="x", truncate=False) == {"model": "demo", "input": "x"}
    assert refused(OLLAMA_EMBED, input="x", options={"temperature": 1}).param == "options.temperature"
    assert said(OLLAMA_EMBEDDINGS, prompt="x")["input"] == "x"
    scored = said(OLLAMA_RERANK, query="q", documents=["a", "b"], top_n=1)
    parse(RerankRequest, json.dumps(scored).encode())
    vectors = {"data": [{"embedding": [0.5, 1.0]}], "usage": {"prompt_tokens": 3}}
    answering = Answering({"model": "demo"}, "0", 1_700_000_000, ended=0.5)
    told = json.loads(retell(OLLAMA_EMBED, answering, json.dumps(vectors).encode()))
    read = EmbedResponse(**told)
    assert read.embeddings == [[0.5, 1.0]] and read.prompt_eval_count == 3 and read.total_duration == 500_000_000
    assert json.loads(retell(OLLAMA_EMBEDDINGS, answering, json.dumps(vectors).encode())) == {"embedding": [0.5, 1.0]}
    scores = {"results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}]}
    (row,) = json.loads(retell(OLLAMA_RERANK, answering, json.dumps(scores).encode()))["results"]
    assert row == {"index": 1, "relevance_score": 0.9, "document": "b"}
    for dialect in (OLLAMA_EMBED, OLLAMA_EMBEDDINGS, OLLAMA_RERANK):
        with pytest.raises(ApiError, match="can't be told"):
            retell(dialect, answering, b'{"data": 5}')


def answering() -> Answering:
    return Answering({"model": "demo:latest"}, "0", 1_700_000_000, waited=0.5, began=1.0, ended=3.0)


def lines(dialect: Dialect, chunks: Sequence[Json]) -> list[Json]:
    assert dialect.teller is not None
    tells, reads = dialect.teller(answering()), Chunks()
    text = "".join(tells.tell(piece) for one in chunks for piece in reads.read(one)) + tells.end()
    text.encode()
    assert text.endswith("\n") and "\n\n" not in text
    return [json.loads(line) for line in text.splitlines()]


def whole_of(chunks: Sequence[Json]) -> Json:
    message: Json = {"role": "assistant", "content": ""}
    calls: dict[int, Json] = {}
    reason = None
    for choice in (one["choices"][0] for one in chunks if one["choices"]):
        delta = choice["delta"]
        message["content"] += delta.get("content", "")
        if thought := delta.get("reasoning_content"):
            message["reasoning_content"] = message.get("reasoning_content", "") + thought
        for part in delta.get("tool_calls", ()):
            known = calls.setdefault(part["index"], {"id": part.get("id"), "function": {"arguments": ""}})
            known["function"]["name"] = part["function"].get("name", known["function"].get("name"))
            known["function"]["arguments"] += part["function"]["arguments"]
        reason = choice["finish_reason"] or reason
    if calls:
        message["tool_calls"] = list(calls.values())
    return {"choices": [{"message": message, "finish_reason": reason}], "usage": chunks[-1]["usage"]}


@pytest.mark.parametrize("story", STORIES)
def test_the_lines_of_an_answer_are_the_whole_one(story: str) -> None:
    told = lines(OLLAMA_CHAT, STORIES[story])
    *before, last = told
    for line in told:
        ChatResponse(**line)
        assert line["model"] == "demo:latest" and line["created_at"] == "2023-11-14T22:13:20Z"
    assert not any(line["done"] for line in before) and last["done"]
    assert all(set(line["message"]) > {"role", "content"} or line["message"]["content"] for line in before), "S14 too"
    said = json.loads(retell(OLLAMA_CHAT, answering(), json.dumps(whole_of(STORIES[story])).encode()))
    texts = {
        name: "".join(line["message"].get(name, "") for line in told).encode("utf-16", "surrogatepass")
        for name in ("content", "thinking")
    }
    for name, text in texts.items():
        assert said["message"].get(name, "").encode("utf-16", "surrogatepass") == text
    calls = [call for line in told for call in line["message"].get("tool_calls", ())]
    assert said["message"].get("tool_calls", []) == calls
    assert [call["function"]["index"] for call in calls] == list(range(len(calls)))  # A5
    assert {name: said[name] for name in ("done_reason", "eval_count", "prompt_eval_count", "total_duration")} == {
        name: last[name] for name in ("done_reason", "eval_count", "prompt_eval_count", "total_duration")
    }


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029"])
def test_no_text_ends_a_line(sign: str) -> None:
    """Ollama's own client reads by httpx, which splits as `splitlines` does."""
    text = f"é{sign}e"
    chunks = [{"choices": [{"delta": {"reasoning": text}}]}, {"choices": [{"delta": {"content": text}}]}]
    teller = OLLAMA_CHAT.teller(Answering({"model": text}, "0", 0))  # type: ignore[misc]
    read = Chunks().read
    told = "".join(teller.tell(piece) for chunk in chunks for piece in read(chunk)) + teller.end()
    told += teller.broken(ApiError(503, text, code="draining"))
    thought, said, last, error = (json.loads(line) for line in told.splitlines())
    assert (thought["message"]["thinking"], said["message"]["content"], last["model"], error["error"]) == (text,) * 4


def test_arguments_that_nobody_can_read_are_none() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "[" * 100_000}}
    chunks = [{"choices": [{"delta": {"tool_calls": [call]}}]}, {"choices": [{"delta": {}, "finish_reason": "length"}]}]
    (called,) = [line for line in lines(OLLAMA_CHAT, chunks) if line["message"].get("tool_calls")]
    assert called["message"]["tool_calls"][0]["function"]["arguments"] == {}


def test_an_answer_without_a_vector_is_none() -> None:
    with pytest.raises(ApiError) as refused:
        retell(OLLAMA_EMBEDDINGS, answering(), b'{"data": []}')
    assert refused.value.status == 502


def test_what_an_answer_took_is_told_in_nanoseconds() -> None:
    last = lines(OLLAMA_CHAT, STORIES["text"])[-1]
    assert (last["load_duration"], last["prompt_eval_duration"], last["eval_duration"], last["total_duration"]) == (
        500_000_000, 500_000_000, 2_000_000_000, 3_000_000_000
    )  # fmt: skip
    assert (last["prompt_eval_count"], last["eval_count"], last["done_reason"]) == (9, 7, "stop")
    assert lines(OLLAMA_CHAT, STORIES["cut"])[-1]["done_reason"] == "length"


def test_a_generated_text_comes_as_text() -> None:
    told = lines(OLLAMA_GENERATE, STORIES["thinking"])
    for line in told:
        GenerateResponse(**line)
    assert "".join(line["response"] for line in told) == "Yes."
    assert "".join(line.get("thinking", "") for line in told) == "Hmm."
    plain = [{"choices": [{"text": "Hel"}]}, {"choices": [{"text": "lo", "finish_reason": "stop"}]}]
    assert "".join(line["response"] for line in lines(OLLAMA_GENERATE, plain)) == "Hello"


def test_an_error_in_a_stream_is_a_line_of_its_own() -> None:
    """A4: the client raises on any line with `error`."""
    assert OLLAMA_CHAT.teller is not None
    text = OLLAMA_CHAT.teller(answering()).broken(ApiError(503, "Gone.", code="draining"))
    assert json.loads(text) == {"error": "Gone."} and text.endswith("\n")
    beat = OLLAMA_CHAT.beat.decode()
    assert json.loads(beat * 3 + text) == {"error": "Gone."}, "signs of life are no lines"


inner_names = st.sampled_from(["role", "content", "images", "seed", "stop", "num_ctx", "type", "function", "name"])
names = st.sampled_from(["messages", "prompt", "options", "format", "think", "stream", "images", "tools", "odd", "raw"])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from(["", "Hi", "json", "user"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(inner_names, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("dialect", [OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED])
@settings(deadline=None)
@given(body=st.dictionaries(names, values, max_size=6))
def test_whatever_is_sent_becomes_a_request_or_is_refused_with_its_name(dialect: Dialect, body: Json) -> None:
    try:
        assert said(dialect, **body)["model"] == "demo"
    except ApiError as error:
        assert error.status == 400 and (error.param is None or f"`{error.param}" in error.message)
