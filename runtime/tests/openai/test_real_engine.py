"""The engine process on a real GGUF, asked by real clients: openai-python, and a socket for the bytes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import ClientSession
from protocol_checks import CHECKS, Served  # type: ignore[import-not-found]

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.report import LIFELINE_FD_ENV, REPORT_FD_ENV
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.install.environment import engines_dir

PYTHON = engines_dir() / "llamacpp" / "bin" / "python"
pytestmark = pytest.mark.engine

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Running:
    """An engine process that is ready."""

    def __init__(self, folder: Path, template: str, **fields: Any) -> None:
        model, settings = folder / "tiny.gguf", folder / "settings.json"
        script = Path(__file__).with_name("tiny_model.py")
        (folder / "template.jinja").write_text(template)
        subprocess.run([sys.executable, script, model, folder / "template.jinja"], check=True)
        values = {"engine": EngineType.LLAMA_CPP, "model_path": str(model), "model_name": "tiny", "port": 0, **fields}
        settings.write_text(RuntimeSettings(**values).to_json())
        read, report = os.pipe()
        lifeline, self._life = os.pipe()
        self.child = subprocess.Popen(
            [PYTHON, "-m", "llmservice_runtime.engines.llamacpp.serve", "--settings", settings],
            pass_fds=(report, lifeline),
            env={**os.environ, REPORT_FD_ENV: str(report), LIFELINE_FD_ENV: str(lifeline)},
        )
        os.close(report)
        os.close(lifeline)
        self._reports = os.fdopen(read)
        ready = next(body for body in map(json.loads, self._reports) if body["kind"] in ("ready", "failure"))
        assert ready["kind"] == "ready", ready
        self.url = f"http://127.0.0.1:{ready['port']}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        code = self.child.wait(30)
        os.close(self._life)
        self._reports.close()
        return code


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, templates: dict[str, str]) -> Iterator[Running]:

    running = Running(
        tmp_path_factory.mktemp("tiny"), templates["hermes"], context_tokens=1024, max_sequences=4, drain_seconds=1
    )
    yield running
    assert running.stop() == 0


@pytest.fixture
def client(engine: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=engine.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_serves_the_protocol(engine: Running, check: Callable[[Served], None]) -> None:
    check(Served(engine.url, "tiny", 1024))


async def test_openai_python_async_many_at_once(engine: Running) -> None:
    async with openai.AsyncOpenAI(base_url=engine.url + "/v1", api_key="none", max_retries=0) as client:

        async def one(number: int) -> str:
            stream = await client.completions.create(
                model="tiny", prompt=f"prompt {number}", max_tokens=16, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

        together = await asyncio.gather(*(one(number) for number in range(8)))
        assert list(together) == [await one(number) for number in range(8)]


def test_openai_python_models_and_errors(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="Served: tiny"):
        client.chat.completions.create(model="other", messages=CHAT["messages"])
    with pytest.raises(openai.BadRequestError, match="1024"):
        client.completions.create(model="tiny", prompt="x" * 3000)


def test_tool_calls_are_valid_whatever_the_model(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": "tiny", "messages": CHAT["messages"], "tools": [TOOL], "max_tokens": 300}
    whole = client.chat.completions.create(**fields, tool_choice="required", parallel_tool_calls=False)
    (call,) = whole.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    named: Any = {"type": "function", "function": {"name": "weather"}}
    arguments = ""
    for chunk in client.chat.completions.create(**fields, tool_choice=named, parallel_tool_calls=False, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            arguments += delta.function.arguments or "" if delta.function else ""
    assert json.loads(arguments)["city"] in ("Rome", "Oslo")


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"guided_regex": "[0-9]{3}-[a-f]{2}"}, "[0-9]{3}-[a-f]{2}"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"enum": [[1, 2], "three"]}}},
            r'\[\s*1\s*,\s*2\s*\]|"three"',
        ),
    ],
)
def test_answers_are_held_to_their_format(client: openai.OpenAI, fields: dict[str, Any], pattern: str) -> None:
    answer = client.chat.completions.create(model="tiny", messages=CHAT["messages"], max_tokens=100, extra_body=fields)
    assert re.fullmatch(pattern, answer.choices[0].message.content or "")


async def test_the_bytes_of_a_stream(engine: Running, events: Any) -> None:
    body = json.dumps({**CHAT, "max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}).encode()
    reader, writer = await asyncio.open_connection(*_address(engine))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    headers, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"Content-Length" not in headers
    assert b"text/event-stream" in headers
    payload = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        payload += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    found = events(payload)
    assert found[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in found[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 0
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]].count(None) == len(chunks) - 2
    assert chunks[-2]["choices"][0]["finish_reason"] in ("stop", "length")


async def test_a_client_that_goes_away_frees_its_place(engine: Running) -> None:
    endless = {**CHAT, "stream": True, "ignore_eos": True}
    async with ClientSession(engine.url) as session:
        replies = [await session.post("/v1/chat/completions", json=endless) for _ in range(4)]
        waiting = asyncio.ensure_future(session.post("/v1/chat/completions", json=endless))
        await replies[0].content.readuntil(b"\n\n")
        assert await _value(session, "vllm:num_requests_running") == 4
        waiting.cancel()
        for reply in replies:
            reply.close()

        async def left() -> float:
            return sum([await _value(session, f"vllm:num_requests_{what}") for what in ("running", "waiting")])

        for _ in range(200):
            if not await left():
                break
            await asyncio.sleep(0.05)
        assert await left() == 0


async def test_metrics_count_what_was_served(engine: Running) -> None:
    async with ClientSession(engine.url) as session:
        before = await _value(session, "vllm:generation_tokens_total")
        body = {"prompt": "abc", "max_tokens": 9, "ignore_eos": True}
        async with session.post("/v1/completions", json=body) as reply:
            assert (await reply.json())["usage"]["completion_tokens"] == 9
        assert await _value(session, "vllm:generation_tokens_total") == before + 9
        assert await _value(session, "vllm:time_to_first_token_seconds_count") > 0


async def _value(session: ClientSession, name: str) -> float:
    async with session.get("/metrics") as reply:
        line = next(line for line in (await reply.text()).splitlines() if line.startswith(name + "{"))
    return float(line.rpartition(" ")[2])


def _address(engine: Running) -> tuple[str, int]:
    host, port = engine.url.removeprefix("http://").split(":")
    return host, int(port)
