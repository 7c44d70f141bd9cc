"""A request is answered alike whether it is plain or one that aiohttp reads: the same status, headers and bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from gateway_world import World, answer, stream  # type: ignore[import-not-found]

from llmservice_api.gateway_keys import new_key, record_of
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.routing import Backend, Replica, Table

KEY = new_key()
PIECES = [b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n', b"data: [DONE]\n\n"]
OTHERWISE = {"Trailer": "X-None"}
"""Says nothing to anybody, and is not plain."""
SAME = (
    "Content-Length",
    "Content-Type",
    "Retry-After",
    "Transfer-Encoding",
    "Vary",
    "Server",
    "X-Request-Id",
    "request-id",
)
REFUSED = answer({"error": {"message": "No.", "type": "invalid_request_error", "code": "x", "param": None}}, 400)


@pytest.fixture
async def keyed() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        door = Door()
        door.publish(Ring({"default": record_of(KEY)}))
        made = World(stack, door)
        await made.open()
        for name, handler in (("demo", stream(*PIECES)), ("whole", answer()), ("refuses", REFUSED)):
            await made.service(handler, name=name)
        idle = Backend("apps", "idle", max_held=0)
        table = made.gateway.proxy.table
        made.gateway.proxy.publish(Table({**table.backends, "apps/idle": idle}, {"friend": "apps/whole"}))
        yield made


async def answered(world: World, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    said = {"X-Request-Id": "one", "Content-Type": "application/json", **headers}
    async with world.client.post(world.url + path, data=body, headers=said) as response:
        return response.status, {name: response.headers.get(name, "") for name in SAME}, await response.read()


CHAT = {"model": "demo", "messages": [], "stream": True}
ASKED: list[tuple[str, Any, dict[str, str]]] = [
    ("/v1/chat/completions", CHAT, {}),
    ("/chat/completions", {**CHAT, "model": "whole", "stream": False}, {}),
    ("/v1/chat/completions", {**CHAT, "model": "friend", "stream": False}, {}),
    ("/apps/demo/v1/chat/completions", CHAT, {}),
    ("/apps/whole/tokenize", {"prompt": "x"}, {}),
    ("/apps/none/v1/chat/completions", CHAT, {}),
    ("/v1/whole/v1/chat/completions", CHAT, {}),
    ("/models/whole/v1/chat/completions", CHAT, {}),
    ("/apps//v1/chat/completions", CHAT, {}),
    ("/v1/embeddings", {"model": "whole", "input": "x"}, {}),
    ("/v1/chat/completions", {**CHAT, "model": "refuses"}, {}),
    ("/v1/chat/completions", {**CHAT, "model": "idle"}, {}),
    ("/v1/chat/completions", {**CHAT, "model": "none"}, {}),
    ("/v1/chat/completions", {"messages": []}, {}),
    ("/v1/chat/completions", [], {}),
    ("/v1/chat/completions", CHAT, {"X-LLMService-Priority": "batch"}),
    ("/v1/chat/completions", CHAT, {"X-LLMService-Priority": "soon"}),
    ("/v1/chat/completions", CHAT, {"Host": "evil.example"}),
    ("/v1/chat/completions", CHAT, {"Authorization": "Bearer wrong"}),
    ("/v1/messages", {"model": "none", "messages": []}, {}),
    ("/apps/demo/v1/responses/x", {}, {}),
    ("/v1/nothing", {}, {}),
    ("/v1/models", {}, {}),
]


@pytest.mark.parametrize(("path", "body", "headers"), ASKED)
async def test_both_ways_are_one(keyed: World, path: str, body: Any, headers: dict[str, str]) -> None:
    sent, given = json.dumps(body).encode(), {"Authorization": f"Bearer {KEY}", **headers}
    async with asyncio.timeout(60):
        plain = await answered(keyed, path, sent, given)
        other = await answered(keyed, path, sent, {**given, **OTHERWISE})
        await keyed.gateway.proxy.wait_idle()
    assert plain == other
    lines = [json.loads(line) for line in keyed.lines]
    for line in lines:
        for changes in ("time", "seconds", "queue_seconds", "first_byte_seconds"):
            line.pop(changes, None)
    assert len(lines) == 2 and lines[0] == lines[1]


async def test_a_stream_that_breaks_is_told_alike(keyed: World) -> None:
    for then in ("die", "end"):
        (runtime,) = await keyed.service(stream(PIECES[0], b"data: {", then=then), name=then)
        sent = json.dumps({**CHAT, "model": then}).encode()
        given = {"Authorization": f"Bearer {KEY}"}
        plain = await answered(keyed, "/v1/chat/completions", sent, given)
        assert plain == await answered(keyed, "/v1/chat/completions", sent, {**given, **OTHERWISE})
        assert len(runtime.seen) == 2 and (b'"error"' in plain[2]) == (then == "die")


async def test_what_a_replica_is_told_is_the_same(keyed: World) -> None:
    """But for the address: its engine sees the gateway."""
    told: list[dict[str, str]] = []

    async def listens(request: Any) -> Any:
        told.append({name: value for name, value in request.headers.items() if name != "Host"})
        return await answer()(request)

    url = (await keyed.runtime(listens)).url
    keyed.publish(Backend("apps", "listens", (Replica("listens-0", url),)))
    given = {"Authorization": f"Bearer {KEY}", "traceparent": "00-a-b-01", "Accept": "text/event-stream"}
    for more in ({}, OTHERWISE):
        await answered(keyed, "/apps/listens/v1/completions", b'{"model":"listens","prompt":"x"}', {**given, **more})
    assert told[0] == told[1] and told[0]["traceparent"] == "00-a-b-01" and "Authorization" not in told[0]
