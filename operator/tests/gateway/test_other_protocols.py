"""Messages and responses over real sockets: what clients see when replicas answer, refuse, break and stall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from gateway_world import Runtime, World, answer, die, stall, stream  # type: ignore[import-not-found]

from llmservice_api.gateway_keys import new_key, record_of
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.routing import Backend, Replica, Table, Unready

Json = dict[str, Any]
TEXT: Json = {
    "messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"input": "Hi"},
}
PROTOCOLS = pytest.mark.parametrize("protocol", TEXT)
USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}


def data(body: Json) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def piece(delta: Json, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return data({"model": "apps/demo", "choices": [choice], "usage": USAGE})


HELLO = piece({"role": "assistant", "content": "Hello"})
END = piece({}, "stop")
DONE = b"data: [DONE]\n\n"
WHOLE = answer(
    {
        "model": "apps/demo",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
)


async def ask(world: World, protocol: str, path: Any = "/v1/", headers: Any = None, **fields: Any) -> Any:
    body = {"model": "demo", **TEXT[protocol], **fields}
    return await world.client.post(f"{world.url}{path}{protocol}", json=body, headers=headers)


def kind(protocol: str, body: Json) -> str:
    """The kind of an error, in its protocol's place."""
    if protocol == "messages":
        assert body["type"] == "error"
        return str(body["error"]["type"])
    return str(body["error"]["code"])


def last(text: bytes) -> Json:
    event = text.decode().rstrip().split("\n\n")[-1]
    found: Json = json.loads(event.partition("data: ")[2])
    return found


@PROTOCOLS
@pytest.mark.parametrize("path", ["/v1/", "/", "/apps/demo/v1/"])
async def test_a_whole_answer(world: World, protocol: str, path: str) -> None:
    (runtime,) = await world.service(WHOLE)
    response = await ask(world, protocol, path)
    body = await response.json()
    assert response.status == 200 and response.headers["Content-Type"].startswith("application/json")
    texts = body["content"] if protocol == "messages" else body["output"][0]["content"]
    assert texts[0]["text"] == "Hello"
    ((asked, chat),) = runtime.seen
    assert asked == "/v1/chat/completions"
    assert json.loads(chat)["messages"] == [{"role": "user", "content": "Hi"}]
    assert response.headers["X-Request-Id"]
    assert (response.headers.get("request-id") is not None) == (protocol == "messages")


@PROTOCOLS
async def test_a_stream_comes_as_it_is_made_and_is_counted(world: World, protocol: str) -> None:
    await world.service(stream(HELLO[:20], HELLO[20:] + b": waiting\n\n", END + DONE))
    text = await (await ask(world, protocol, stream=True)).read()
    assert last(text)["type"] == ("message_stop" if protocol == "messages" else "response.completed")
    beat = b'event: ping\ndata: {"type":"ping"}\n\n' if protocol == "messages" else b": waiting\n\n"
    assert beat in text and b"[DONE]" not in text
    line = json.loads(world.lines[-1])
    assert (line["prompt_tokens"], line["completion_tokens"], line["stream"]) == (30, 12, True)
    metrics = await (await world.client.get(f"{world.url}/metrics")).text()
    assert 'llmservice_gateway_tokens_total{kind="completion",service="apps/demo"} 12.0' in metrics


@PROTOCOLS
async def test_a_token_may_be_half_of_a_character(world: World, protocol: str) -> None:
    """JSON has the halves of a surrogate pair as escapes, whichever chunks they stand in."""
    await world.service(stream(HELLO, piece({"content": "\ud83d"}), piece({"content": "\ude00"}), END + DONE))
    text = await (await ask(world, protocol, stream=True)).read()
    assert text.index(rb'"\ud83d"') < text.index(rb'"\ude00"')
    assert last(text)["type"] == ("message_stop" if protocol == "messages" else "response.completed")


@PROTOCOLS
async def test_events_are_not_kept_back_and_who_leaves_ends_the_engines_work(world: World, protocol: str) -> None:
    (runtime,) = await world.service(stream(HELLO, then="stall"))
    response = await ask(world, protocol, stream=True)
    text = b""
    while b"Hello" not in text:
        text += await response.content.readany()
    response.close()
    await asyncio.wait_for(runtime.cancelled.wait(), 5)
    await asyncio.wait_for(world.gateway.proxy.wait_idle(), 5)
    assert json.loads(world.lines[-1])["completion_tokens"] == 12


@PROTOCOLS
async def test_a_stream_that_breaks_in_the_middle_ends_with_an_error(world: World, protocol: str) -> None:
    await world.service(stream(HELLO, HELLO[:30], then="die"))
    text = await (await ask(world, protocol, stream=True)).read()
    assert last(text)["type"] == "error" and "incomplete" in json.dumps(last(text))
    assert b"message_stop" not in text and b"response.completed" not in text
    assert (b"response.failed" in text) == (protocol == "responses")
    assert json.loads(world.lines[-1])["reason"] == "replica_lost"


@PROTOCOLS
@pytest.mark.parametrize("end", ["end", "die"])
async def test_an_error_of_the_engine_in_a_stream_is_told_once(world: World, protocol: str, end: str) -> None:
    error = {"message": "It drains.", "type": "service_unavailable_error", "code": "draining", "param": None}
    await world.service(stream(HELLO, data({"error": error}), then=end))
    text = await (await ask(world, protocol, stream=True)).read()
    assert text.count(b"event: error") == 1
    assert kind(protocol, last(text)) == ("overloaded_error" if protocol == "messages" else "draining")


@PROTOCOLS
@pytest.mark.parametrize("said", [HELLO + END, b"data: nonsense\n\n", b"data: [1]\n\n", b"data: " + b"x" * (2 << 20)])
async def test_a_stream_that_is_none_of_chats_is_no_answer(world: World, protocol: str, said: bytes) -> None:
    await world.service(stream(said))
    text = await (await ask(world, protocol, stream=True)).read()
    assert last(text)["type"] == "error"


@PROTOCOLS
@pytest.mark.parametrize("fields", [{}, {"stream": True}])
async def test_an_engines_error_is_told_in_the_words_of_the_protocol(world: World, protocol: str, fields: Json) -> None:
    error = {
        "message": "`tools.0.function.parameters` is no schema.",
        "type": "invalid_request_error",
        "code": "invalid_value",
        "param": "tools.0.function.parameters",
    }
    await world.service(answer({"error": error}, 400))
    response = await ask(world, protocol, **fields)
    body = await response.json()
    field = "tools.0.input_schema" if protocol == "messages" else "tools.0.parameters"
    assert response.status == 400 and body["error"]["message"] == f"`{field}` is no schema."
    assert (body["error"].get("details") or body["error"])["param"] == field


@PROTOCOLS
async def test_what_is_no_answer_is_502(world: World, protocol: str) -> None:
    for said in ({"object": "none"}, {"choices": 5}):
        await world.service(answer(said))
        response = await ask(world, protocol)
        assert response.status == 502
        assert kind(protocol, await response.json()) == ("api_error" if protocol == "messages" else "replica_error")


@PROTOCOLS
async def test_who_is_held_gets_signs_of_life_and_then_the_reason(world: World, protocol: str) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, beat_seconds=0.05)
    world.publish(Backend("apps", "demo", unready=Unready("Loading", "It loads.")))
    response = await ask(world, protocol, stream=True)
    text = await response.read()
    assert response.status == 200
    assert text.startswith(b"event: ping" if protocol == "messages" else b": waiting")
    assert last(text)["type"] == "error" and "It loads." in json.dumps(last(text))
    whole = await ask(world, protocol)
    assert whole.status == 503 and whole.headers["Retry-After"] == "10"
    assert kind(protocol, await whole.json()) == ("overloaded_error" if protocol == "messages" else "loading")


@PROTOCOLS
async def test_a_request_whose_replica_dies_is_tried_once_more_and_then_no_more(world: World, protocol: str) -> None:
    deaths = iter([True, False, True])

    async def engine(request: web.Request) -> web.StreamResponse:
        answered: web.StreamResponse = await (die if next(deaths) else WHOLE)(request)
        return answered

    await world.service(engine, engine)
    assert (await ask(world, protocol)).status == 200
    assert json.loads(world.lines[-1])["retries"] == 1
    again = await ask(world, protocol)
    assert again.status == 422
    assert kind(protocol, await again.json()) == (
        "invalid_request_error" if protocol == "messages" else "request_quarantined"
    )


@PROTOCOLS
async def test_more_than_the_context_leaves_is_asked_for_without_a_bound(world: World, protocol: str) -> None:
    asked: list[Json] = []

    async def engine(request: web.Request) -> web.StreamResponse:
        asked.append(json.loads(await request.read()))
        if asked[-1].get("max_tokens"):
            error = {"message": "too long", "type": "x", "code": "context_length_exceeded", "param": "messages"}
            return web.json_response({"error": error}, status=400)
        cut = {"index": 0, "message": {"content": "Hello"}, "finish_reason": "length"}
        return web.json_response({"model": "m", "choices": [cut]})

    await world.service(engine)
    field = "max_tokens" if protocol == "messages" else "max_output_tokens"
    response = await ask(world, protocol, **{field: 64_000})
    body = await response.json()
    assert response.status == 200 and [each.get("max_tokens") for each in asked] == [64_000, None]
    if protocol == "messages":
        assert body["stop_reason"] == "model_context_window_exceeded"
    else:
        assert body["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_prompt_that_does_not_fit_is_refused_after_all(world: World) -> None:
    error = {"message": "too long", "type": "x", "code": "context_length_exceeded", "param": "messages"}
    (runtime,) = await world.service(answer({"error": error}, 400))
    response = await ask(world, "messages")
    assert response.status == 400 and len(runtime.seen) == 2


@PROTOCOLS
async def test_an_alias_reaches_its_service(world: World, protocol: str) -> None:
    (runtime,) = await world.service(WHOLE)
    backends = world.gateway.proxy.table.backends
    world.gateway.proxy.publish(Table(backends, {"claude": "apps/demo"}))
    assert (await ask(world, protocol, model="claude")).status == 200
    assert json.loads(runtime.seen[0][1])["model"] == "apps/demo"


@PROTOCOLS
async def test_large_bodies_are_translated_beside_the_loop(world: World, protocol: str) -> None:
    (runtime,) = await world.service(WHOLE)
    long = "wörd " * 60_000
    fields = {"input": long} if protocol == "responses" else {"messages": [{"role": "user", "content": long}]}
    response = await ask(world, protocol, **fields)
    assert response.status == 200 and json.loads(runtime.seen[0][1])["messages"][0]["content"] == long
    wrong = await ask(world, protocol, **fields, frobnicate=1)
    assert wrong.status == 400 and "frobnicate" in (await wrong.json())["error"]["message"]
    answered = await world.service(answer({"model": "m", "choices": [{"message": {"content": long}}]}), name="long")
    said = await (await ask(world, protocol, model="long")).text()
    assert answered and "wörd wörd" in said
    assert world.gateway.proxy.bodies.taken == 0


async def test_tokens_of_a_message_are_counted_by_the_replica(world: World) -> None:
    (runtime,) = await world.service(answer({"count": 17, "max_model_len": 99, "tokens": [1] * 17}))
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
    async with world.client.post(f"{world.url}/v1/messages/count_tokens", json=body) as response:
        assert await response.json() == {"input_tokens": 17}
    assert runtime.seen == [("/tokenize", json.dumps(body, separators=(",", ":")).encode())]
    async with world.client.post(f"{world.url}/v1/messages/batches", json=body) as response:
        assert response.status == 404 and kind("messages", await response.json()) == "not_found_error"


async def test_nothing_is_stored(world: World) -> None:
    for method, path in (("GET", "resp_1"), ("DELETE", "resp_1"), ("POST", "resp_1/cancel"), ("GET", "r/input_items")):
        async with world.client.request(method, f"{world.url}/v1/responses/{path}") as response:
            assert response.status == 404 and "stored" in (await response.json())["error"]["message"]


@PROTOCOLS
async def test_a_client_that_takes_nothing_is_let_go(world: World, protocol: str) -> None:
    world.impatient()
    many = piece({"content": "x" * 60_000})
    (runtime,) = await world.service(stream(*[many] * 400, then="stall"))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]), limit=1024)
    body = json.dumps({"model": "demo", "stream": True, **TEXT[protocol]})
    head = f"POST /v1/{protocol} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body.encode())
    await asyncio.wait_for(runtime.cancelled.wait(), 30)
    writer.close()
    assert not reader.at_eof()


@PROTOCOLS
async def test_a_page_that_may_not_ask_is_told_in_the_protocol(world: World, protocol: str) -> None:
    response = await ask(world, protocol, headers={"Origin": "http://evil.example"})
    assert response.status == 403
    assert kind(protocol, await response.json()) == (
        "permission_error" if protocol == "messages" else "origin_not_allowed"
    )


@pytest.fixture
async def keyed() -> AsyncIterator[tuple[World, str]]:
    async with AsyncExitStack() as stack:
        door, key = Door(), new_key()
        world = World(stack, door)
        await world.open()
        door.publish(Ring({"little": record_of(key, ["apps/demo"], 3, 40)}))
        yield world, key


@PROTOCOLS
@pytest.mark.parametrize("header", ["x-api-key", "Authorization"])
async def test_keys_and_their_limits_hold(keyed: tuple[World, str], protocol: str, header: str) -> None:
    world, key = keyed
    (runtime,) = await world.service(WHOLE)
    refused = await ask(world, protocol)
    assert refused.status == 401
    assert kind(protocol, await refused.json()) == (
        "authentication_error" if protocol == "messages" else "api_key_required"
    )
    headers = {header: key if header == "x-api-key" else f"Bearer {key}"}
    assert (await ask(world, protocol, headers=headers)).status == 200
    over = await ask(world, protocol, headers=headers)  # 42 of 40 tokens are used
    assert over.status == 429 and int(over.headers["Retry-After"]) > 0
    assert kind(protocol, await over.json()) == (
        "rate_limit_error" if protocol == "messages" else "rate_limit_exceeded"
    )
    assert len(runtime.seen) == 1 and json.loads(world.lines[-2])["key_name"] == "little"


async def test_a_replica_that_is_silent_is_lost(world: World) -> None:
    world.impatient()
    runtimes: list[Runtime] = await world.service(stream(HELLO, then="stall"))
    text = await asyncio.wait_for((await ask(world, "messages", stream=True)).read(), 10)
    assert "sent nothing for" in last(text)["error"]["message"] and runtimes[0].seen
    world.publish(Backend("apps", "demo", (Replica("stall", (await world.runtime(stall)).url),)))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ask(world, "messages"), 0.2)


async def test_a_client_of_http_1_0_gets_a_stream_too(world: World) -> None:
    await world.service(stream(HELLO, END + DONE))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    body = json.dumps({"model": "demo", "stream": True, **TEXT["messages"]})
    writer.write(f"POST /v1/messages HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert last(await asyncio.wait_for(reader.read(), 30))["type"] == "message_stop"
    writer.close()
