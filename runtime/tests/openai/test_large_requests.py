"""Requests of megabytes: read and rendered beside the engine's process, and answered as small ones are."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.openai import large
from llmservice_runtime.openai.requests import body as bodies
from llmservice_runtime.openai.requests.apart import SMALL_BYTES, pack, put_together, taken_apart, unpack
from llmservice_runtime.openai.requests.body import INLINE_BYTES
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.completion import CompletionRequest, DetokenizeRequest, TokenizeRequest
from llmservice_runtime.openai.requests.fields import Strict
from llmservice_runtime.openai.requests.parse import parse
from llmservice_runtime.wire.errors import ApiError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
IDS = st.lists(st.integers(0, 1 << 20), max_size=5)
PROMPTS = TEXT | IDS | st.lists(TEXT, max_size=4) | st.lists(IDS, max_size=4)
WORDS = 'Ünd so weiter, "and" so on.\n' * 4000
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "x_extra": 1}}
CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": WORDS}]},
    {"messages": [{"role": "user", "content": WORDS}], "tools": [TOOL], "metadata": {"a": 1}, "max_tokens": 3},
    {
        "messages": [{"role": "user", "content": [{"type": "text", "text": WORDS}, {"type": "text", "text": "b"}]}],
        "add_generation_prompt": False,
        "chat_template_kwargs": {"extra": "yes"},
    },
    {
        "messages": [
            {"role": "developer", "content": WORDS},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "assistant", "content": "To be"},
        ],
        "continue_final_message": True,
    },
]


def restored(model: type[Strict], body: dict[str, Any]) -> Any:
    found, data = taken_apart(parse(model, json.dumps(body).encode()))
    return put_together(model, json.loads(json.dumps(found)), data)


@given(PROMPTS)
def test_prompts_are_the_same_after_the_way(prompt: Any) -> None:
    assert unpack(*pack(prompt)) == prompt
    body = {"prompt": prompt, "n": 2, "logit_bias": {"1": 2}, "structured_outputs": {"json": "{}"}, "user": "u"}
    assert restored(CompletionRequest, body) == parse(CompletionRequest, json.dumps(body).encode())


@given(IDS)
def test_tokens_are_the_same_after_the_way(tokens: list[int]) -> None:
    assert restored(DetokenizeRequest, {"tokens": tokens}).tokens == tokens


def test_an_id_that_no_model_has_is_refused_by_name() -> None:
    with pytest.raises(ApiError, match=f"`prompt` has token id {1 << 70}"):
        pack([1 << 70])


def test_prompt_and_messages_are_still_both_there() -> None:
    both = restored(TokenizeRequest, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]})
    assert both.prompt is not None and both.messages is not None


@pytest.mark.parametrize("content", [None, "", "abc", [], [{"type": "text", "text": "x"}]])
def test_what_a_last_message_has_is_still_known(content: Any) -> None:
    message = {"role": "assistant", "content": content, "reasoning": "hm", "tool_calls": []}
    last = restored(ChatRequest, {"messages": [{"role": "user", "content": "a"}, message]}).messages[-1]
    assert (last.role, bool(last.content), bool(last.model_extra["reasoning"])) == ("assistant", bool(content), True)


@pytest.mark.parametrize("body", CHATS)
async def test_prompts_are_rendered_as_those_of_small_requests(
    connect: Any, scripted: Any, tokenizer: Any, templates: Any, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = []
    for at in (INLINE_BYTES, 1 << 30):
        monkeypatch.setattr(bodies, "APART_BYTES", at)
        engine = scripted(tokenizer=tokenizer(templates["hermes"]), context_tokens=1 << 20)
        client = await connect(engine)
        response = await client.post("/v1/chat/completions", json=body)
        assert response.status == 200, await response.text()
        prompts.append(bytes(token for token in engine.requests[0].prompt_tokens if token < 256).decode())
    assert prompts[0] == prompts[1] and WORDS[:100] in prompts[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": WORDS, "max_tokens": 1}),
        ("/v1/completions", {"prompt": [WORDS, "b"], "echo": True, "max_tokens": 1}),
        ("/v1/completions", {"prompt": [[65, 66] * 30_000, [67]], "max_tokens": 1}),
        ("/tokenize", {"prompt": WORDS}),
        ("/tokenize", {"messages": [{"role": "user", "content": WORDS}], "return_token_strs": True}),
        ("/detokenize", {"tokens": [65] * 30_000}),
    ],
)
async def test_other_endpoints_answer_alike(
    connect: Any, scripted: Any, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    for at in (INLINE_BYTES, 1 << 30):
        monkeypatch.setattr(bodies, "APART_BYTES", at)
        client = await connect(scripted(context_tokens=1 << 20))
        response = await client.post(path, json=body)
        assert response.status == 200, await response.text()
        answers.append({k: v for k, v in (await response.json()).items() if k not in ("id", "created")})
    assert answers[0] == answers[1]


async def test_many_tokens_are_written_off_the_event_loop(
    connect: Any, scripted: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()

    class Watched(tokenizer):  # type: ignore[misc]
        def token_bytes(self, token: int) -> bytes:
            threads.add(threading.get_ident())
            return bytes(super().token_bytes(token))

    client = await connect(scripted(tokenizer=Watched(), context_tokens=1 << 20))
    for size in (10, 50_000):
        threads.clear()
        prompt = "ab" * (size // 2)
        asked = {"prompt": prompt, "return_token_strs": True, "add_special_tokens": False}
        answer = await (await client.post("/tokenize", json=asked)).json()
        assert answer["count"] == len(answer["tokens"]) == size and answer["tokens"][-1] == ord("b")
        assert answer["token_strs"] == list(prompt)
        assert (threads == {threading.get_ident()}) == (size == 10)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"messages": [{"role": "user", "content": WORDS}], "nonsense": 1}, 400, "nonsense"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "x": WORDS}]}]}, 400, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": "a"}], "guided_json": "x" * (SMALL_BYTES + 1)}, 413, None),
        ({"messages": [{"role": "user", "content": WORDS}], "top_p": 3}, 400, "top_p"),
    ],
)
async def test_what_is_refused_is_refused_in_the_same_words(
    connect: Any,
    scripted: Any,
    body: dict[str, Any],
    status: int,
    param: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "APART_BYTES", INLINE_BYTES)
    client = await connect(scripted(context_tokens=1 << 20))
    response = await client.post("/v1/chat/completions", data=io.BytesIO(json.dumps(body).encode()))
    error = (await response.json())["error"]
    assert (response.status, error["param"]) == (status, param), error


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(large, "SECONDS", 3.0)
    monkeypatch.setattr(bodies, "APART_BYTES", INLINE_BYTES)
    yield
    large.WORKER.close()


async def test_a_stopped_process_is_replaced_and_the_request_answered(connect: Any, scripted: Any, quick: None) -> None:
    client = await connect(scripted(context_tokens=1 << 20))
    body = {"messages": [{"role": "user", "content": WORDS}]}
    assert (await client.post("/v1/chat/completions", json=body)).status == 200
    process = large.WORKER._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    assert (await client.post("/v1/chat/completions", json=body)).status == 200
    assert process.poll() == -signal.SIGKILL
