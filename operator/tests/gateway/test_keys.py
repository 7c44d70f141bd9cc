"""The gateway with API keys, over real sockets: who is let in, what they see, and what counts."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gateway_world import Runtime, World, answer, serve, stream  # type: ignore[import-not-found]
from yarl import URL

from llmservice_api.gateway_keys import new_key, record_of, rotated
from llmservice_api.gateway_usage import Used
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.places import Capacity
from llmservice_gateway.routing import Backend, Replica, Table
from llmservice_runtime.wire.server import ApiRunner

KEY, LITTLE = new_key(), new_key()
USAGE = {"prompt_tokens": 30, "completion_tokens": 12}
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
TOLD = b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"


class Keyed(World):  # type: ignore[misc]
    """A gateway that asks for keys; its clock stands until the test moves it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.now = 1000.0
        self.today = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.door = Door(lambda: self.now, lambda: self.today)
        super().__init__(stack, self.door)

    def let_in(self, requests_per_minute: int | None = None, tokens_per_minute: int | None = None) -> None:
        """`KEY` may use everything, `LITTLE` apps/demo within limits."""
        little = record_of(LITTLE, ["apps/demo"], requests_per_minute, tokens_per_minute)
        self.door.publish(Ring({"default": record_of(KEY), "little": little}))

    async def ask(self, key: str = LITTLE, path: str = "/v1/chat/completions", **fields: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": "apps/demo", "messages": [], **fields}
        async with self.client.post(self.url + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def models(self, key: str) -> list[str]:
        headers = {"Authorization": f"Bearer {key}"}
        async with self.client.get(f"{self.url}/v1/models", headers=headers) as response:
            return [entry["id"] for entry in (await response.json())["data"]]

    async def streamed(self, key: str = LITTLE, **fields: Any) -> bytes:
        body = {"model": "apps/demo", "messages": [], "stream": True, **fields}
        headers = {"Authorization": f"Bearer {key}"}
        async with self.client.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as response:
            assert response.status == 200
            return bytes(await response.read())

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while not self.lines:  # noqa: ASYNC110 - it comes a moment after its answer
                await asyncio.sleep(0.01)
        found: dict[str, Any] = json.loads(self.lines.pop())
        return found


@pytest.fixture
async def keyed() -> AsyncIterator[Keyed]:
    async with AsyncExitStack() as stack:
        made = Keyed(stack)
        await made.open()
        yield made


async def test_only_who_shows_a_key_is_let_in_and_a_wrong_one_is_never_repeated(keyed: Keyed) -> None:
    (runtime,) = await keyed.service(answer())
    keyed.let_in()
    assert (await keyed.ask(KEY))[0] == 200
    async with keyed.client.post(
        f"{keyed.url}/v1/chat/completions", json={"model": "demo", "messages": []}, headers={"x-api-key": KEY}
    ) as response:
        assert response.status == 200
    assert len(runtime.seen) == 2
    wrong = "llmservice-WRONG"
    for key, code in (("", "api_key_required"), (wrong, "invalid_api_key"), (KEY[:-1], "invalid_api_key")):
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/apps/demo"),
                             ("GET", "/apps/demo/v1/models"), ("GET", "/nowhere")):  # fmt: skip
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with keyed.client.request(method, keyed.url + path, headers=headers) as response:
                text = await response.text()
                assert (response.status, json.loads(text)["error"]["code"]) == (401, code), path
                assert response.headers["WWW-Authenticate"] == "Bearer" and "WRONG" not in text
    assert len(runtime.seen) == 2
    text = b"".join(keyed.lines).decode()
    assert not any(secret in text for secret in (KEY, KEY[:-1], "WRONG")) and '"key_name": "default"' in text


@pytest.mark.parametrize("path", ["/v1/completions", "/api/chat", "/api/show", "/api/blobs/sha256:1", "/v1/models"])
async def test_who_has_no_key_is_not_asked_for_a_body(keyed: Keyed, path: str) -> None:
    keyed.let_in()
    url = URL(keyed.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("path", ["/v1%2Fcluster/auth", "/v1/cluster%2Fauth"])
async def test_a_path_that_is_only_spelled_like_an_open_one_takes_a_key(keyed: Keyed, path: str) -> None:
    keyed.let_in()
    for method in ("GET", "POST"):
        url = URL(keyed.url + path, encoded=True)
        async with keyed.client.request(method, url, json={"inputs": "Hi"}) as response:
            assert response.status == 401


async def test_where_health_has_a_port_of_its_own_every_path_takes_a_key() -> None:
    async with AsyncExitStack() as stack:
        keyed = Keyed(stack)
        keyed.let_in()
        url = await serve(stack, keyed.gateway.application(alone=False))
        async with aiohttp.ClientSession() as client:
            for path in ("/metrics", "/healthz", "/nowhere"):
                async with client.get(url + path) as response:
                    assert response.status == 401, path


async def test_before_keys_were_read_nobody_is_let_in(keyed: Keyed) -> None:
    await keyed.service(answer())
    status, body = await keyed.ask(KEY)
    assert (status, body["error"]["code"]) == (503, "keys_unread")
    keyed.let_in()
    assert (await keyed.ask(KEY))[0] == 200


async def test_a_key_is_revoked_and_rotated_while_requests_come(keyed: Keyed) -> None:
    await keyed.service(answer())
    record = record_of(KEY)
    keyed.door.publish(Ring({"a": record}))
    assert (await keyed.ask(KEY))[0] == 200
    keyed.door.publish(Ring({"a": rotated(record, LITTLE, keyed.today, timedelta(hours=1))}))
    assert [(await keyed.ask(key))[0] for key in (KEY, LITTLE)] == [200, 200]
    keyed.today += timedelta(hours=1)
    assert [(await keyed.ask(key))[0] for key in (KEY, LITTLE)] == [401, 200]
    keyed.door.publish(Ring({}))
    assert (await keyed.ask(LITTLE))[0] == 401


async def test_what_a_key_may_not_use_does_not_exist_for_it(keyed: Keyed) -> None:
    (runtime,) = await keyed.service(answer())
    replica = (Replica("r", runtime.url),)
    backends = (Backend("apps", "demo", replica), Backend("ml", "demo", replica), Backend("ml", "big", replica))
    aliases = {"gpt": "ml/big", "small": "apps/demo"}
    keyed.gateway.proxy.publish(Table({backend.full_name: backend for backend in backends}, aliases))
    keyed.let_in()
    assert await keyed.models(LITTLE) == ["apps/demo", "small"]
    assert await keyed.models(KEY) == ["apps/demo", "gpt", "ml/big", "ml/demo", "small"]
    assert (await keyed.ask(LITTLE, model="demo"))[0] == 200, "a bare name is unique among what it may use"
    assert (await keyed.ask(KEY, model="demo"))[1]["error"]["code"] == "model_ambiguous"
    for model in ("ml/big", "gpt", "ml/demo"):
        status, body = await keyed.ask(LITTLE, model=model)
        absent = await keyed.ask(LITTLE, model="ml/nobody")
        assert (status, absent[0]) == (404, 404) and "big" not in body["error"]["message"].split(". ", 1)[1]
        assert body["error"]["message"].split(". ", 1)[1] == absent[1]["error"]["message"].split(". ", 1)[1]
    assert (await keyed.ask(LITTLE, path="/ml/big/v1/chat/completions"))[0] == 404


async def test_requests_over_the_limit_get_429_and_say_when_to_come_again(keyed: Keyed) -> None:
    (runtime,) = await keyed.service(answer())
    keyed.let_in(requests_per_minute=3)
    assert [(await keyed.ask())[0] for _ in range(4)] == [200, 200, 200, 429]
    headers = {"Authorization": f"Bearer {LITTLE}"}
    body = {"model": "apps/demo", "messages": []}
    async with keyed.client.post(f"{keyed.url}/v1/chat/completions", json=body, headers=headers) as response:
        said = (await response.json())["error"]
        assert (response.status, said["code"], said["type"]) == (429, "rate_limit_exceeded", "requests")
        assert 55 <= int(response.headers["Retry-After"]) <= 61 and response.headers["x-should-retry"] == "true"
    assert len(runtime.seen) == 3, "what is refused reaches no replica"
    assert (await keyed.ask(KEY))[0] == 200, "another key has its own limits"
    keyed.now += 61
    assert (await keyed.ask())[0] == 200
    keyed.let_in(requests_per_minute=5)
    assert (await keyed.ask())[0] == 200, "an edit counts at once"


async def test_two_gateways_have_half_of_the_limit_each(keyed: Keyed) -> None:
    await keyed.service(answer())
    keyed.let_in(requests_per_minute=4)
    keyed.door.gateways = lambda: 2
    assert [(await keyed.ask())[0] for _ in range(3)] == [200, 200, 429]
    keyed.door.gateways = lambda: 1
    assert [(await keyed.ask())[0] for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("streams", [False, True])
async def test_tokens_hold_up_the_next_request(keyed: Keyed, streams: bool) -> None:
    await keyed.service(stream(PIECE, TOLD, DONE) if streams else answer({"object": "x", "usage": USAGE}))
    keyed.let_in(tokens_per_minute=43)
    for _ in range(2):  # 42 tokens each: the second one begins below the limit
        if streams:
            assert await keyed.streamed() == PIECE + DONE
        else:
            assert (await keyed.ask())[0] == 200
        await keyed.line()
    status, body = await keyed.ask(stream=streams)
    assert (status, body["error"]["type"]) == (429, "tokens")
    keyed.now += 61
    assert keyed.door.usage.taken() == {keyed.today.date(): {"little": Used(2, 60, 24)}}


@pytest.mark.parametrize(
    ("fields", "sent", "told"),
    [
        ({}, {"include_usage": True}, False),
        ({"stream_options": None}, {"include_usage": True}, False),
        ({"stream_options": {}}, {"include_usage": True}, False),
        (
            {"stream_options": {"include_usage": False, "include_obfuscation": False}},
            {"include_usage": True, "include_obfuscation": False},
            False,
        ),
        ({"stream_options": {"include_usage": True}}, {"include_usage": True}, True),
        ({"stream_options": {"include_usage": "yes"}}, {"include_usage": "yes"}, True),
        ({"stream_options": [1]}, [1], True),
    ],
)
async def test_replicas_tell_the_usage_and_clients_hear_of_it_when_they_ask(
    keyed: Keyed, fields: dict[str, Any], sent: Any, told: bool
) -> None:
    """What a replica refuses is left to it; here it answers whatever it is asked."""
    (runtime,) = await keyed.service(stream(PIECE + PIECE[:20], PIECE[20:] + TOLD[:30], TOLD[30:], DONE))
    keyed.let_in()
    assert await keyed.streamed(**fields) == PIECE * 2 + (TOLD if told else b"") + DONE
    body = json.loads(runtime.seen[0][1])
    assert body["stream_options"] == sent and body["stream"] is True
    line = await keyed.line()
    assert (line["prompt_tokens"], line["completion_tokens"], line["key_name"]) == (30, 12, "little")
    text = await (await keyed.client.get(f"{keyed.url}/metrics")).text()
    for kind, count in (("prompt", 30.0), ("completion", 12.0)):
        series = f'llmservice_gateway_key_tokens_total{{key="little",kind="{kind}",service="apps/demo"}} {count}'
        assert series in text
    assert 'llmservice_gateway_key_requests_total{code="200",key="little",service="apps/demo"} 1.0' in text
    assert KEY not in text and LITTLE not in text


async def test_without_keys_usage_is_known_as_well(world: World) -> None:
    (runtime,) = await world.service(stream(PIECE, TOLD, DONE))
    assert await (await world.chat(stream=True)).read() == PIECE + DONE
    assert json.loads(runtime.seen[0][1])["stream_options"] == {"include_usage": True}


async def test_who_leaves_before_the_usage_pays_for_what_came(keyed: Keyed) -> None:
    await keyed.service(stream(*[PIECE] * 5, then="stall"))
    keyed.let_in(tokens_per_minute=4)
    body = {"model": "apps/demo", "messages": [], "stream": True}
    headers = {"Authorization": f"Bearer {LITTLE}"}
    response = await keyed.client.post(f"{keyed.url}/v1/chat/completions", json=body, headers=headers)
    assert await response.content.readexactly(5 * len(PIECE)) == PIECE * 5
    response.close()
    assert (await keyed.line())["status"] in (200, 499)
    status, said = await keyed.ask()
    assert (status, said["error"]["type"]) == (429, "tokens")


async def test_keys_take_turns_however_many_they_are_asked_by(keyed: Keyed) -> None:
    """One key, two addresses or a rotation in between: one owner; each owner has its turn."""
    free, order = asyncio.Event(), list[str]()

    async def handler(request: web.Request) -> web.StreamResponse:
        order.append((await request.json())["user"])
        await free.wait()
        return web.json_response({"object": "x"})

    runtime: Runtime = await keyed.runtime(handler)
    keyed.publish(Backend("apps", "demo", (Replica("r", runtime.url),), capacity=Capacity(1, 10_000_000, 0)))
    keyed.let_in()
    keyed.gateway.proxy.limits = replace(keyed.gateway.proxy.limits, hold_seconds=60)
    rooms = keyed.gateway.proxy.rooms
    asked = []
    for number, key in enumerate([KEY, KEY, KEY, KEY, LITTLE]):
        asked.append(asyncio.create_task(keyed.ask(key, user=f"{'a' if key == KEY else 'b'}{number}")))
        async with asyncio.timeout(30):
            while rooms.running + rooms.held <= number:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.005)
    free.set()
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 5
    assert order.index("b4") <= 2, order


async def test_a_body_that_stands_still_is_given_up_and_its_room_is_free_again(keyed: Keyed) -> None:
    await keyed.service(answer())
    keyed.let_in()
    bodies = keyed.gateway.proxy.bodies
    bodies.silent_seconds = 0.2
    host, port = keyed.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\n".encode() + b'{"model"')
    said = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert said.startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()
    assert bodies.taken == 0
    bodies.silent_seconds = 30
    packed = gzip.compress(json.dumps({"model": "demo", "messages": []}).encode())
    headers = {"Authorization": f"Bearer {KEY}", "Content-Encoding": "gzip"}
    async with keyed.client.post(f"{keyed.url}/v1/chat/completions", data=packed, headers=headers) as response:
        assert response.status == 200


async def test_a_header_that_does_not_end_is_given_up() -> None:
    runner = ApiRunner(web.Application(), keepalive_timeout=0.5, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: ")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    finally:
        await runner.cleanup()


async def test_a_page_that_may_call_asks_first_without_a_key(keyed: Keyed) -> None:
    """Browsers send no key with a preflight; what they may not is said by who guards pages, not by keys."""
    keyed.let_in()
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with keyed.client.options(f"{keyed.url}/v1/chat/completions", headers=headers) as response:
        assert (await response.json())["error"]["code"] == "origin_not_allowed"
    async with aiohttp.ClientSession() as session, session.get(f"{keyed.url}/healthz") as response:
        assert response.status == 200
