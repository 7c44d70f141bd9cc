"""Chat over HTTP, against a scripted engine."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from llmservice_runtime.protocol.engine import Delta, FinishReason, QueueFullError

PING = {"model": "demo", "messages": [{"role": "user", "content": "ping"}]}


async def test_a_whole_answer(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    reply = await client.post("/v1/chat/completions", json={**PING, "max_tokens": 5})
    body = await reply.json()
    assert reply.status == 200
    assert body["object"] == "chat.completion"
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Hello world"}
    assert choice["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["completion_tokens"] == 2
    assert usage["total_tokens"] == usage["prompt_tokens"] + 2
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}


async def test_a_stream_byte_for_byte(connect: Any, scripted: Any, events: Any) -> None:
    client = await connect(scripted(pieces=("Hé\n", '"x"')))
    request = {**PING, "stream": True, "stream_options": {"include_usage": True}}
    reply = await client.post("/chat/completions", json=request)
    raw = await reply.read()
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in reply.headers
    found = events(raw)
    head = found[0].split(b',"choices"')[0]
    usage = b'{"prompt_tokens":54,"completion_tokens":2,"total_tokens":56,"prompt_tokens_details":{"cached_tokens":2}}'
    assert found == [
        head
        + b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}',
        head + ',"choices":[{"index":0,"delta":{"content":"Hé\\n"},"logprobs":null,"finish_reason":null}]}'.encode(),
        head + b',"choices":[{"index":0,"delta":{"content":"\\"x\\""},"logprobs":null,"finish_reason":null}]}',
        head + b',"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}',
        head + b',"choices":[],"usage":' + usage + b"}",
        b"[DONE]",
    ]


async def test_every_token_id_is_told_once_and_only_when_asked_for(connect: Any, scripted: Any, events: Any) -> None:
    """Also of tokens that give no text, and of the last one, whose text comes before the end's own chunk."""
    pieces = (Delta(0, "", [5]), Delta(0, "a", [6, 7]), Delta(0, "b", [8], finish_reason=FinishReason.STOP))
    client = await connect(scripted(pieces=pieces))
    request = {**PING, "return_token_ids": True}
    body = await (await client.post("/v1/chat/completions", json=request)).json()
    assert body["choices"][0]["token_ids"] == [5, 6, 7, 8]
    assert len(body["prompt_token_ids"]) == body["usage"]["prompt_tokens"]
    reply = await client.post("/v1/chat/completions", json={**request, "stream": True})
    chunks = [json.loads(event) for event in events(await reply.read())[:-1]]
    assert [chunk.get("prompt_token_ids") for chunk in chunks[:2]] == [body["prompt_token_ids"], None]
    told = [chunk["choices"][0].get("token_ids") for chunk in chunks if chunk["choices"][0].get("token_ids")]
    assert [token for ids in told for token in ids] == [5, 6, 7, 8]
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True})
    assert b"token_ids" not in await reply.read()
    body = await (await client.post("/v1/chat/completions", json=PING)).json()
    assert "prompt_token_ids" not in body and "token_ids" not in body["choices"][0]


async def test_usage_only_when_asked_for(connect: Any, scripted: Any, events: Any) -> None:
    client = await connect(scripted())
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True})
    assert all(b'"usage"' not in event for event in events(await reply.read()))


async def test_several_answers_each_finish_once(connect: Any, scripted: Any, events: Any) -> None:
    client = await connect(scripted())
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True, "n": 3})
    choices = [json.loads(event)["choices"][0] for event in events(await reply.read())[:-1]]
    for index in range(3):
        own = [choice for choice in choices if choice["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert [choice["finish_reason"] for choice in own].count("stop") == 1
        assert own[-1]["finish_reason"] == "stop"
        assert "".join(choice["delta"].get("content", "") for choice in own) == "Hello world"


async def test_a_failure_after_the_first_byte_is_an_event_without_done(
    connect: Any, scripted: Any, events: Any
) -> None:
    broken = Delta(0, "", [], finish_reason=FinishReason.ERROR, error="decode failed")
    client = await connect(scripted(pieces=("Hel", broken)))
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True})
    found = events(await reply.read())
    error = json.loads(found[-1])["error"]
    assert "decode failed" in error["message"]
    assert set(error) == {"message", "type", "code", "param"}
    assert b"[DONE]" not in b"".join(found)


async def test_a_failure_before_the_first_byte_is_a_status(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(pieces=(RuntimeError("boom"),)))
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True})
    assert reply.status == 500
    assert (await reply.json())["error"]["code"] == "internal_error"


async def test_queue_full_asks_for_a_retry(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(refuse=QueueFullError("100 requests wait", 500)))
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True})
    assert reply.status == 429
    assert reply.headers["Retry-After"] == "120"
    assert reply.headers["x-should-retry"] == "true"


async def test_more_answers_than_ever_fit_are_refused_for_good(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(max_answers=3))
    reply = await client.post("/v1/chat/completions", json={**PING, "n": 4})
    error = (await reply.json())["error"]
    assert (reply.status, error["param"]) == (400, "n")
    assert "4 answers" in error["message"] and "at most 3" in error["message"]
    prompts = await client.post("/v1/completions", json={"model": "demo", "prompt": ["a", "b"], "n": 2})
    assert prompts.status == 400


async def test_logprobs(connect: Any, scripted: Any, events: Any) -> None:
    client = await connect(scripted())
    request = {**PING, "logprobs": True, "top_logprobs": 1}
    body = await (await client.post("/v1/chat/completions", json=request)).json()
    content = body["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["Hello", " world"]
    assert content[0]["bytes"] == list(b"Hello")
    assert content[0]["top_logprobs"] == [{"token": "Hello", "logprob": -0.5, "bytes": list(b"Hello")}]
    reply = await client.post("/v1/chat/completions", json={**request, "stream": True})
    streamed = [json.loads(event)["choices"][0]["logprobs"] for event in events(await reply.read())[:-1]]
    assert [entry["content"][0]["token"] for entry in streamed if entry] == ["Hello", " world"]


async def test_unknown_model_lists_what_is_served(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(), aliases=("apps/demo",))
    reply = await client.post("/v1/chat/completions", json={**PING, "model": "gpt-9"})
    error = (await reply.json())["error"]
    assert reply.status == 404
    assert error["code"] == "model_not_found"
    assert "demo, apps/demo" in error["message"]


async def test_context_too_long_gives_both_numbers(connect: Any, scripted: Any) -> None:
    engine = scripted()
    client = await connect(engine)
    long = {**PING, "messages": [{"role": "user", "content": "x" * 600}]}
    error = (await (await client.post("/v1/chat/completions", json=long)).json())["error"]
    assert error["code"] == "context_length_exceeded"
    assert "512" in error["message"] and "650" in error["message"]
    error = (await (await client.post("/v1/chat/completions", json={**PING, "max_tokens": 500})).json())["error"]
    assert error["code"] == "context_length_exceeded"
    assert not engine.requests


async def test_default_length_is_what_the_context_leaves(connect: Any, scripted: Any) -> None:
    engine = scripted()
    client = await connect(engine)
    await client.post("/v1/chat/completions", json=PING)
    await client.post("/v1/chat/completions", json={**PING, "max_completion_tokens": 7})
    assert engine.requests[0].params.max_tokens == 512 - len(engine.requests[0].prompt_tokens)
    assert engine.requests[1].params.max_tokens == 7


async def test_without_a_template_chat_says_what_to_do(connect: Any, scripted: Any, tokenizer: Any) -> None:
    client = await connect(scripted(tokenizer=tokenizer(None)))
    reply = await client.post("/v1/chat/completions", json=PING)
    assert reply.status == 400
    assert "/v1/completions" in (await reply.json())["error"]["message"]
    reply = await client.post("/v1/completions", json={"model": "demo", "prompt": "x"})
    assert reply.status == 200


async def test_a_base_model_is_not_told_to_set_a_task_that_it_can_not_do(
    connect: Any, scripted: Any, tokenizer: Any
) -> None:
    client = await connect(scripted(tokenizer=tokenizer(None)), task="Completion")
    message = (await (await client.post("/v1/chat/completions", json=PING)).json())["error"]["message"]
    assert "no chat template" in message and "/v1/completions" in message and "task: Chat" not in message


async def test_a_completion_service_refuses_chat(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(), task="Completion")
    reply = await client.post("/v1/chat/completions", json=PING)
    assert reply.status == 400
    assert (await reply.json())["error"]["code"] == "chat_not_supported"


async def test_while_loading_everything_is_503_but_metrics_and_models(connect: Any) -> None:
    client = await connect(None)
    for path in ("/v1/chat/completions", "/v1/completions"):
        reply = await client.post(path, json={**PING} if "chat" in path else {"prompt": "x"})
        assert reply.status == 503
        assert reply.headers["x-should-retry"] == "true"
    assert (await client.get("/health")).status == 503
    assert (await client.get("/metrics")).status == 200
    assert (await (await client.get("/v1/models")).json())["data"][0]["id"] == "demo"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat/completions", 405), ("POST", "/v1/models", 405), ("POST", "/v1/nonsense", 404)],
)
async def test_wrong_routes_have_the_error_body(
    connect: Any, scripted: Any, method: str, path: str, status: int
) -> None:
    client = await connect(scripted())
    reply = await client.request(method, path)
    assert reply.status == status
    assert set((await reply.json())["error"]) == {"message", "type", "code", "param"}


async def test_a_body_that_is_too_large(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    reply = await client.post("/v1/completions", data=io.BytesIO(b"x" * ((32 << 20) + 1)))
    assert reply.status == 413
    assert (await reply.json())["error"]["code"] == "request_too_large"


async def test_reasoning_in_both_fields(
    connect: Any, scripted: Any, tokenizer: Any, templates: Any, events: Any
) -> None:
    template = templates["chatml"] + "{# <think></think> #}"
    engine = scripted(pieces=("<thi", "nk>\nwell", " then\n</th", "ink>\n\nYes"), tokenizer=tokenizer(template))
    client = await connect(engine)
    message = (await (await client.post("/v1/chat/completions", json=PING)).json())["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": "Yes",
        "reasoning": "well then",
        "reasoning_content": "well then",
    }
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True})
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events(await reply.read())[:-1]]
    assert "".join(d.get("reasoning", "") for d in deltas) == "well then"
    assert all(d.get("reasoning") == d.get("reasoning_content") for d in deltas)
    assert "".join(d.get("content", "") for d in deltas) == "Yes"
    body = await (await client.post("/v1/chat/completions", json={**PING, "reasoning_format": "none"})).json()
    assert body["choices"][0]["message"]["content"].startswith("<think>")


CHANNELS = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}{% if m.thinking %}"
    "<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant{% endif %}<|channel|>final{% endif %}"
    "<|message|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


async def test_thinking_in_a_channel_of_special_tokens(
    connect: Any, scripted: Any, tokenizer: Any, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gpt-oss writes it: without its special tokens nobody could tell the parts apart."""

    def encode(self: Any, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return [256] if text == "<|channel|>" else list(text.encode())

    monkeypatch.setattr(tokenizer, "encode", encode)
    text = (
        "<|channel|>analysis<|message|>well then<|end|><|start|>assistant<|channel|>final<|message|>Yes <|end|> of line"
    )
    pieces = tuple(text[at : at + 7] for at in range(0, len(text), 7))
    engine = scripted(pieces=pieces, tokenizer=tokenizer(CHANNELS))
    client = await connect(engine)
    message = (await (await client.post("/v1/chat/completions", json=PING)).json())["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("well then", "Yes <|end|> of line")
    assert engine.requests[-1].params.skip_special_tokens is False
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True})
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events(await reply.read())[:-1]]
    for name, whole in (("reasoning", "well then"), ("content", "Yes <|end|> of line")):
        assert "".join(delta.get(name, "") for delta in deltas) == whole
    held = {**PING, "response_format": {"type": "json_object"}}
    assert (await client.post("/v1/chat/completions", json=held)).status == 200
    assert '"final<|message|>"' in engine.requests[-1].params.grammar.source, "the form holds for what follows"
    begun = [*PING["messages"], {"role": "assistant", "content": "{"}]
    on = {**held, "messages": begun, "continue_final_message": True, "add_generation_prompt": False}
    assert (await client.post("/v1/chat/completions", json=on)).status == 200
    assert "message|>" not in engine.requests[-1].params.grammar.source, "it is in its content already"


TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


async def test_tool_calls_streamed(connect: Any, scripted: Any, tokenizer: Any, templates: Any, events: Any) -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "%s"}}\n</tool_call>'
    text = "Look.\n" + call % "Köln" + "\n" + call % "Oslo"
    engine = scripted(
        pieces=tuple(text[i : i + 3] for i in range(0, len(text), 3)), tokenizer=tokenizer(templates["hermes"])
    )
    client = await connect(engine)
    reply = await client.post("/v1/chat/completions", json={**PING, "stream": True, "tools": [TOOL]})
    choices = [json.loads(event)["choices"][0] for event in events(await reply.read())[:-1]]
    calls = [choice["delta"]["tool_calls"] for choice in choices if "tool_calls" in choice["delta"]]
    assert all(len(call) == 1 and "index" in call[0] for call in calls)
    for index, city in enumerate(("Köln", "Oslo")):
        own = [call[0] for call in calls if call[0]["index"] == index]
        assert own[0]["function"]["name"] == "weather" and own[0]["id"]
        assert all("id" not in call and "name" not in call["function"] for call in own[1:])
        assert json.loads("".join(call["function"]["arguments"] for call in own)) == {"city": city}
    assert choices[-1]["finish_reason"] == "tool_calls"
    body = await (await client.post("/v1/chat/completions", json={**PING, "tools": [TOOL]})).json()
    message = body["choices"][0]["message"]
    assert [json.loads(call["function"]["arguments"])["city"] for call in message["tool_calls"]] == ["Köln", "Oslo"]
    assert message["content"] == "Look.\n"


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_logprobs_joined_are_the_content(
    connect: Any, scripted: Any, tokenizer: Any, templates: Any, events: Any, size: int
) -> None:
    text = 'Hm?</think>\n\nSo, é: <tool_call>\n{"name": "weather", "arguments": {"city": "x"}}\n</tool_call>'
    pieces = tuple(text[i : i + size] for i in range(0, len(text), size))
    template = templates["hermes"].replace("assistant\n{%", "assistant\n<think>{%")
    client = await connect(scripted(pieces=pieces, tokenizer=tokenizer(template)))
    request = {**PING, "tools": [TOOL], "logprobs": True}
    choice = (await (await client.post("/v1/chat/completions", json=request)).json())["choices"][0]
    assert choice["message"]["content"] == "So, é: " and choice["finish_reason"] == "tool_calls"
    found = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in found) == "So, é: "
    assert bytes(byte for entry in found for byte in entry["bytes"]).decode() == "So, é: "
    reply = await client.post("/v1/chat/completions", json={**request, "stream": True})
    choices = [json.loads(event)["choices"][0] for event in events(await reply.read())[:-1]]
    streamed = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
    assert streamed == found


async def test_a_call_that_ends_early_is_not_finished_by_tool_calls(
    connect: Any, scripted: Any, tokenizer: Any, templates: Any
) -> None:
    pieces = ('<tool_call>\n{"name": "weather", "arguments": {"city": "K',)
    engine = scripted(pieces=pieces, tokenizer=tokenizer(templates["hermes"]))
    client = await connect(engine)
    body = await (await client.post("/v1/chat/completions", json={**PING, "tools": [TOOL], "stop": "K"})).json()
    assert body["choices"][0]["finish_reason"] == "stop"
    assert engine.requests[0].params.stop_shield == "<tool_call>"


async def test_a_template_for_tools_is_used_with_tools_only(
    connect: Any, scripted: Any, tokenizer: Any, templates: dict[str, str]
) -> None:
    engine = scripted(tokenizer=tokenizer(templates["chatml"], templates["hermes"]))
    client = await connect(engine)
    told = {"tools": [TOOL]}
    for more, expected in (({}, False), (told, True), ({**told, "tool_choice": "none"}, False)):
        answer = await client.post("/v1/chat/completions", json={**PING, **more})
        assert answer.status == 200, await answer.text()
        prompt = engine.tokenizer.decode(engine.requests[-1].prompt_tokens)
        assert ("Answer with <tool_call>" in prompt) == expected
    asked = {"messages": PING["messages"], "tools": [TOOL]}
    counted = await (await client.post("/tokenize", json=asked)).json()
    assert "Answer with <tool_call>" in engine.tokenizer.decode(counted["tokens"])


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_allowed_tools_are_those_that_may_be_called(
    connect: Any, scripted: Any, tokenizer: Any, templates: Any, mode: str
) -> None:
    engine = scripted(tokenizer=tokenizer(templates["hermes"]), context_tokens=2048)
    client = await connect(engine)
    tools = [TOOL, {"type": "function", "function": {"name": "other"}}]

    def choice(name: str) -> dict[str, Any]:
        named = {"type": "function", "function": {"name": name}}
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named]}}

    answer = await client.post("/v1/chat/completions", json={**PING, "tools": tools, "tool_choice": choice("other")})
    assert answer.status == 200, await answer.text()
    request = engine.requests[-1]
    assert '"name": "other"' in (prompt := engine.tokenizer.decode(request.prompt_tokens))
    assert "weather" not in prompt
    whole = await client.post("/v1/chat/completions", json={**PING, "tools": [tools[1]], "tool_choice": "auto"})
    assert whole.status == 200
    assert (engine.requests[-1].params.grammar == request.params.grammar) == (mode == "auto")
    wrong = await client.post("/v1/chat/completions", json={**PING, "tools": tools, "tool_choice": choice("third")})
    assert (wrong.status, (await wrong.json())["error"]["param"]) == (400, "tool_choice")


async def test_tools_without_support_in_the_template(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    reply = await client.post("/v1/chat/completions", json={**PING, "tools": [TOOL]})
    error = (await reply.json())["error"]
    assert (reply.status, error["param"]) == (400, "tools")
    assert "template" in error["message"]
