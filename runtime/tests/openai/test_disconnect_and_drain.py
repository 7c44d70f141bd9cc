"""Clients that go away, clients that do not read, and a process that is told to stop."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from aiohttp import ClientSession

CHAT = {"messages": [{"role": "user", "content": "ping"}], "stream": True}


async def test_a_client_that_goes_away_cancels_its_generation(connect: Any, scripted: Any) -> None:
    engine = scripted(pieces=("one", asyncio.Event()))
    client = await connect(engine)
    reply = await client.post("/v1/chat/completions", json=CHAT)
    await reply.content.readuntil(b"\n\n")
    assert engine.running == 1
    reply.close()
    await asyncio.wait_for(engine.ended.wait(), 5)
    assert engine.running == 0


async def test_a_client_that_goes_away_before_the_first_token(connect: Any, scripted: Any) -> None:
    engine = scripted(pieces=(asyncio.Event(),))
    client = await connect(engine)
    for body in (CHAT, {**CHAT, "stream": False}):
        engine.ended.clear()
        request = asyncio.ensure_future(client.post("/v1/chat/completions", json=body))
        await asyncio.wait_for(engine.starts.get(), 5)
        request.cancel()
        await asyncio.wait_for(engine.ended.wait(), 5)


async def test_a_slow_reader_holds_back_the_engine(connect: Any, scripted: Any) -> None:
    read = 0

    class Endless(scripted):  # type: ignore[misc]
        async def _generate(self, request: Any) -> Any:
            nonlocal read
            async for delta in super()._generate(request):
                read += 1
                yield delta

    engine = Endless(pieces=tuple("x" * 1000 for _ in range(20_000)))
    client = await connect(engine)
    reply = await client.post("/v1/chat/completions", json=CHAT)
    await reply.content.readuntil(b"\n\n")
    last = -1
    while read != last:
        last = read
        await asyncio.sleep(0.2)
    # Socket buffers take some MB, never the 20 MB that wait in the engine.
    assert read < 15_000
    reply.close()


async def test_comments_while_waiting(connect: Any, scripted: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("llmservice_runtime.openai.stream.HEARTBEAT_SECONDS", 0.05)
    gate = asyncio.Event()
    client = await connect(scripted(pieces=(gate, "late")))
    reply = await client.post("/v1/chat/completions", json=CHAT)
    assert reply.status == 200
    for _ in range(3):
        while not (await reply.content.readuntil(b"\n\n")).startswith(b":"):
            pass
    gate.set()
    rest = await reply.read()
    assert b"late" in rest and rest.endswith(b"data: [DONE]\n\n")


async def test_comments_while_what_comes_is_held_back(connect: Any, scripted: Any, monkeypatch: Any) -> None:
    """As in a tool call that is shown whole: tokens come, and nothing can be written of them yet."""
    monkeypatch.setattr("llmservice_runtime.openai.stream.HEARTBEAT_SECONDS", 0.05)

    class Mumbling(scripted):  # type: ignore[misc]
        async def _generate(self, request: Any) -> Any:
            async for delta in super()._generate(request):
                while not commented.is_set() and not delta.finish_reason:
                    yield replace(delta, text="")
                    await asyncio.sleep(0.01)
                yield delta

    commented = asyncio.Event()
    client = await connect(Mumbling(pieces=("late",)))
    reply = await client.post("/v1/chat/completions", json=CHAT)
    event = b""
    while not event.startswith(b":"):
        event = await asyncio.wait_for(reply.content.readuntil(b"\n\n"), 10)
    commented.set()
    assert b"late" in await reply.read()


async def test_drain_lets_streams_finish_and_refuses_new_work(connect: Any, scripted: Any) -> None:
    gate = asyncio.Event()
    client = await connect(scripted(pieces=("one", gate, "two")))
    reply = await client.post("/v1/chat/completions", json=CHAT)
    drain = asyncio.ensure_future(client.app_server.drain.run(30))
    await asyncio.sleep(0)
    refused = await client.post("/v1/chat/completions", json=CHAT)
    assert refused.status == 503
    assert refused.headers["x-should-retry"] == "true"
    assert int(refused.headers["Retry-After"]) <= 120
    assert (await client.get("/health")).status == 503
    assert 'reason="draining"} 1.0' in await (await client.get("/metrics")).text()
    gate.set()
    assert (await reply.read()).endswith(b"data: [DONE]\n\n")
    await asyncio.wait_for(drain, 5)


async def test_streams_that_outlast_the_drain_end_with_an_error(connect: Any, scripted: Any) -> None:
    engine = scripted(pieces=("one", asyncio.Event()))
    client = await connect(engine)
    stream = await client.post("/v1/chat/completions", json=CHAT)
    whole = asyncio.ensure_future(client.post("/v1/chat/completions", json={**CHAT, "stream": False}))
    for _ in range(2):
        await asyncio.wait_for(engine.starts.get(), 5)
    await asyncio.wait_for(client.app_server.drain.run(0), 5)
    events = (await stream.read()).split(b"\n\n")
    error = json.loads(events[-2].removeprefix(b"data: "))["error"]
    assert error["code"] == "draining"
    assert b"[DONE]" not in b"".join(events)
    refused = await whole
    assert refused.status == 503
    assert (await refused.json())["error"]["code"] == "draining"
    assert engine.running == 0


async def test_metrics_answer_while_requests_run(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(pieces=("one", asyncio.Event())))
    reply = await client.post("/v1/chat/completions", json=CHAT)
    async with ClientSession() as session, session.get(client.make_url("/metrics")) as metrics:
        text = await metrics.text()
    assert "vllm:num_requests_running{" in text
    assert "vllm:time_to_first_token_seconds_bucket{" in text
    reply.close()
