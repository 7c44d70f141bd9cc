"""Prompts of any length: bounded before they are tokenized, in turns with others', and given up with their client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llmservice_runtime.openai.encoding import THREAD_CHARS, encode
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.wire.errors import ApiError

LONG = "x" * THREAD_CHARS


class Endless:
    """A tokenizer that finds one token after another until `enough` is set; `found` counts them."""

    vocab_size = 1
    bos_token = eos_token = ""
    end_tokens: frozenset[int] = frozenset()
    chat_template = tool_template = None

    def __init__(self, least: int = 0) -> None:
        self.least = least
        self.found = 0
        self.began, self.enough = threading.Event(), threading.Event()

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return [0]

    def at_least(self, text: str) -> int:
        return self.least

    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Iterator[list[int]]:
        self.began.set()
        while not self.enough.is_set():
            self.found += 1
            yield [0]

    def decode(self, tokens: Any, *, skip_special: bool = True) -> str:
        return ""

    def token_bytes(self, token: int) -> bytes:
        return b""


async def test_requests_take_turns_and_end_with_their_client() -> None:
    endless = Endless()
    waiting = asyncio.ensure_future(encode(endless, LONG, False))
    await asyncio.to_thread(endless.began.wait)
    other = Endless()
    other.enough.set()
    assert await encode(other, LONG, False) == []  # not behind the other one, which has no end
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await encode(other, LONG, False) == []  # behind the piece that was at work
    found = endless.found
    assert await encode(other, LONG, False) == []
    assert endless.found == found


async def test_what_cannot_fit_is_not_tokenized() -> None:
    endless = Endless(least=10_000)
    with pytest.raises(ApiError) as caught:
        await encode(endless, LONG, False, context_tokens=100, field="messages")
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "messages"
    assert "100 tokens" in caught.value.message and "at least 10000" in caught.value.message
    assert endless.found == 0


async def test_counting_ends_once_a_prompt_is_far_too_long() -> None:
    endless = Endless()
    with pytest.raises(ApiError) as caught:
        await encode(endless, LONG, False, context_tokens=100)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x" * 900_000}),
        ("/v1/completions", {"prompt": ["x" * 900_000, "y"]}),
        ("/v1/completions", {"prompt": [65] * 100_000}),
        ("/detokenize", {"tokens": [65] * 100_000}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 900_000}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}] * 20_000}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}] * 20_000}]},
        ),
    ],
)
async def test_long_prompts_get_a_400_that_names_the_context(
    connect: Any, scripted: Any, path: str, body: dict[str, Any]
) -> None:
    client = await connect(scripted())
    response = await client.post(path, json=body)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, "context_length_exceeded")
    assert "context is 512 tokens" in error["message"]


async def test_a_body_that_cannot_fit_is_refused_before_it_is_read(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    reader, writer = await asyncio.open_connection(client.host, client.port)
    length = 30_000_000
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"400"
    writer.close()


async def test_a_body_of_unknown_length_is_bounded_too(connect: Any, scripted: Any) -> None:
    async def body() -> Any:
        yield b'{"prompt": "'
        for _ in range(40):
            yield b"x" * 100_000
        yield b'"}'

    client = await connect(scripted())
    response = await client.post("/tokenize", data=body())
    assert (response.status, (await response.json())["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_body_of_millions_of_values_is_not_built(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    body = b'{"messages": [{"role": "user", "content": "hi", "x": [' + b"[]," * 200_000 + b"[]]}]}"
    response = await client.post("/v1/chat/completions", data=body)
    assert (response.status, (await response.json())["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_large_body_that_may_fit_is_read_off_the_event_loop(
    connect: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    validate = ChatRequest.model_validate.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, present: Any) -> Any:
        threads.append(threading.current_thread().name)
        return validate(cls, present)

    monkeypatch.setattr(ChatRequest, "model_validate", classmethod(watched))
    client = await connect(scripted())
    for size in (100, 200_000):
        message = {"role": "user", "content": "hi"}
        await client.post("/v1/chat/completions", json={"messages": [message], "metadata": {"x": "x" * size}})
    assert threads == ["MainThread", "parse_0"]
