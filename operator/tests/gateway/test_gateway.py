"""What clients see when replicas answer, break, stall and disappear."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from gateway_world import World, answer, die, raw_server, stall, stream  # type: ignore[import-not-found]
from yarl import URL

from llmservice_gateway.naming import INLINE_BYTES, asked_of
from llmservice_gateway.routing import Backend, Replica, Unready
from llmservice_runtime.wire.errors import ApiError

EVENTS = [
    b'data: {"choices":[{"delta":{"content":"\xc3\xa4"}}]}\n\n',
    b": waiting\n\n",
    b'data: {"choices":[{"del',
    b'ta":{}}]}\n\ndata: {"choices":[]}\n\n',
    b"data: [DONE]\n\n",
]


async def test_a_stream_passes_byte_for_byte(world: World) -> None:
    await world.service(stream(*EVENTS, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}))
    response = await world.chat(stream=True)
    assert await response.read() == b"".join(EVENTS)
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in response.headers


async def test_events_are_not_held_back(world: World) -> None:
    await world.service(stream(EVENTS[0], then="stall"))
    response = await world.chat(stream=True)
    assert await response.content.readany() == EVENTS[0]
    response.close()


async def test_the_body_reaches_the_replica_untouched(world: World) -> None:
    (runtime,) = await world.service(answer())
    body = b'{"model" : "apps/demo",  "messages":[], "x": 1e2}'
    response = await world.client.post(f"{world.url}/v1/chat/completions", data=body)
    assert response.status == 200
    assert runtime.seen == [("/v1/chat/completions", body)]


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/completions", "/v1/completions"),
        ("/completions", "/v1/completions"),
        ("/tokenize", "/tokenize"),
        ("/v1/detokenize", "/detokenize"),
        ("/apps/demo/v1/chat/completions", "/v1/chat/completions"),
        ("/apps/demo/tokenize", "/tokenize"),
        ("/v1/embeddings", "/v1/embeddings"),
        ("/embeddings", "/v1/embeddings"),
        ("/apps/demo/v1/embeddings", "/v1/embeddings"),
        ("/v1/rerank", "/v1/rerank"),
        ("/rerank", "/v1/rerank"),
        ("/apps/demo/rerank", "/v1/rerank"),
        ("/v1/score", "/v1/score"),
        ("/apps/demo/v1/score", "/v1/score"),
    ],
)
async def test_routes_with_and_without_prefix(world: World, path: str, upstream: str) -> None:
    (runtime,) = await world.service(answer())
    async with world.client.post(world.url + path, json={"model": "demo"}) as response:
        assert response.status == 200
    assert runtime.seen[0][0] == upstream


async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(world: World) -> None:
    await world.service(stream(EVENTS[0], EVENTS[2], then="die"))
    body = await (await world.chat(stream=True)).read()
    assert body.startswith(EVENTS[0] + b'data: {"error"')  # the unfinished event is gone
    assert body.endswith(b"\n\n") and b"[DONE]" not in body
    error = json.loads(body[len(EVENTS[0]) + 6 :])["error"]
    assert error["code"] == "replica_lost" and "incomplete" in error["message"]


async def test_a_stream_that_stalls_ends_with_an_error_event(world: World) -> None:
    world.impatient()
    (runtime,) = await world.service(stream(EVENTS[0], then="stall"))
    body = await (await world.chat(stream=True)).read()
    assert b"sent nothing for" in body and b"[DONE]" not in body
    await asyncio.wait_for(runtime.cancelled.wait(), 2)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
async def test_events_with_other_line_ends_are_not_held_back(world: World, end: bytes) -> None:
    world.impatient()
    event = b'data: {"choices":[]}' + end + end
    await world.service(stream(event[:-2], event[-2:] + event[:9], then="stall"))
    response = await world.chat(stream=True)
    got = b""
    while len(got) < len(event):
        got += await response.content.readany()
    assert got == event
    assert (await response.read()).startswith(b'data: {"error"')


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
async def test_a_replica_that_falls_silent_is_lost_in_a_bounded_time(world: World, fields: dict[str, Any]) -> None:
    """It took the request and resets nothing: a frozen process, or a network that swallows."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    world.impatient()
    url = await raw_server(world.stack, silent)
    good = await world.runtime(answer())
    world.publish(Backend("apps", "demo", (Replica("silent", url),)))
    response = await asyncio.wait_for(world.chat(**fields), 10)
    assert response.status == 503 and (await response.json())["error"]["code"] == "replica_lost"
    world.publish(Backend("apps", "demo", (Replica("silent", url), Replica("good", good.url))))
    assert (await asyncio.wait_for(world.chat(**fields), 10)).status == 200


@pytest.mark.parametrize("handler", [stream(then="stall"), stall])
async def test_an_answer_that_takes_long_is_waited_for_but_not_for_ever(world: World, handler: object) -> None:
    (runtime,) = await world.service(handler)
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, idle_seconds=2.0, answer_seconds=2.5)
    began = asyncio.get_running_loop().time()
    response = await asyncio.wait_for(world.chat(), 10)
    assert response.status == 504 and (await response.json())["error"]["code"] == "answer_timeout"
    assert asyncio.get_running_loop().time() - began >= 2.4  # beyond the bound of silence: it answers other requests
    await asyncio.wait_for(runtime.cancelled.wait(), 2)


async def test_a_replica_that_was_told_to_end_is_not_said_to_have_broken(world: World) -> None:
    async def stopped(request: web.Request) -> web.StreamResponse:
        world.publish(Backend("apps", "demo", unready=Unready("Draining", "The service is being stopped.")))
        response: web.StreamResponse = await die(request)
        return response

    await world.service(stopped)
    response = await world.chat()
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (503, "draining") and "restart" not in error["message"]


@pytest.mark.parametrize("first", [die, stream(then="die"), answer({"error": {}}, 503), answer({"error": {}}, 429)])
async def test_another_replica_is_asked_while_nothing_was_sent(world: World, first: object) -> None:
    broken, good = await world.service(first, answer({"object": "chat.completion"}))
    response = await world.chat()
    assert response.status == 200
    assert len(broken.seen) == len(good.seen) == 1
    text = await (await world.client.get(f"{world.url}/metrics")).text()
    assert 'llmservice_gateway_retries_total{service="apps/demo"} 1.0' in text


async def test_no_third_replica_is_asked(world: World) -> None:
    runtimes = await world.service(die, die, answer())
    response = await world.chat()
    assert response.status == 422
    assert (await response.json())["error"]["code"] == "request_quarantined"
    assert sum(len(runtime.seen) for runtime in runtimes) == 2


async def test_a_request_that_a_replica_refuses_is_not_given_to_another(world: World) -> None:
    _, second = await world.service(answer({"error": {"message": "no"}}, 400), answer())
    assert (await world.chat()).status == 400
    assert second.seen == []


async def test_the_last_replicas_own_refusal_is_passed_on(world: World) -> None:
    await world.service(answer({"error": {"message": "full"}}, 429, {"Retry-After": "7", "x-should-retry": "true"}))
    response = await world.chat()
    assert (response.status, response.headers["Retry-After"]) == (429, "7")


async def test_nothing_listens(world: World) -> None:
    world.publish(Backend("apps", "demo", (Replica("gone", "http://127.0.0.1:1"),)))
    response = await world.chat()
    assert response.status == 503 and response.headers["Retry-After"]


@pytest.mark.parametrize("handler", [stream(EVENTS[0], then="stall"), stream(then="stall")])
async def test_a_client_that_leaves_cancels_the_work(world: World, handler: object) -> None:
    (runtime,) = await world.service(handler)
    asked = asyncio.create_task(world.chat(stream=True))
    async with asyncio.timeout(60):
        while not runtime.seen:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
    asked.cancel()
    await asyncio.wait([asked])
    if not asked.cancelled():  # it had begun
        (await asked).close()
    await asyncio.wait_for(runtime.cancelled.wait(), 60)
    await asyncio.wait_for(world.gateway.proxy.wait_idle(), 60)


async def test_requests_spread_over_the_replicas(world: World) -> None:
    runtimes = await world.service(*[stream(EVENTS[0], then="stall")] * 2)
    responses = [await world.chat(stream=True) for _ in range(8)]
    assert [len(runtime.seen) for runtime in runtimes] == [5, 3]  # one prompt: its replica gets 1.25 times the mean
    for response in responses:
        response.close()


async def test_unknown_and_ambiguous_names_list_what_is_served(world: World) -> None:
    world.publish(Backend("apps", "demo"), Backend("team", "demo"), Backend("team", "big"))
    response = await world.chat("gpt-4")
    error = (await response.json())["error"]
    assert response.status == 404
    assert (error["code"], error["param"], error["type"]) == ("model_not_found", "model", "invalid_request_error")
    assert "apps/demo, team/big, team/demo" in error["message"]
    response = await world.chat("demo")
    assert response.status == 404 and "apps/demo, team/demo" in (await response.json())["error"]["message"]


async def test_a_service_that_is_not_ready_says_why(world: World) -> None:
    failed = Unready("OutOfMemory", "It needs 9 GiB, 4 GiB are free.", "Use a smaller one.", final=True)
    world.publish(Backend("apps", "demo", unready=failed), Backend("apps", "new"))
    response = await world.chat()
    error = (await response.json())["error"]
    assert response.status == 503 and error["code"] == "OutOfMemory"
    assert "9 GiB" in error["message"] and "smaller" in error["message"]
    assert int(response.headers["Retry-After"]) <= 120 and response.headers["x-should-retry"] == "false"
    response = await world.chat("new")
    assert response.status == 503 and response.headers["x-should-retry"] == "true"


async def test_models_lists_every_service(world: World) -> None:
    await world.service(answer())
    world.publish(*world.gateway.proxy.table.backends.values(), Backend("apps", "cold", context_tokens=64))
    for path in ("/v1/models", "/models"):
        body = await (await world.client.get(world.url + path)).json()
        assert [(entry["id"], entry["ready"]) for entry in body["data"]] == [("apps/cold", False), ("apps/demo", True)]
    body = await (await world.client.get(f"{world.url}/apps/cold/v1/models")).json()
    assert [entry["max_model_len"] for entry in body["data"]] == [64]
    world.publish(*world.gateway.proxy.table.backends.values(), Backend("models", "demo"))
    body = await (await world.client.get(f"{world.url}/models/demo/v1/models")).json()
    assert [entry["id"] for entry in body["data"]] == ["models/demo"], "a namespace of that name is one"
    for name in ("cold", "apps/cold", "apps%2Fcold"):
        assert (await (await world.client.get(f"{world.url}/v1/models/{name}")).json())["id"] == "apps/cold"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/chat/completions", b"{", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"[" * 100_000, 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"[]", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"{}", 400, "model_required"),
        ("POST", "/v1/chat/completions", b'{"model": ["demo"]}', 400, "model_required"),
        ("POST", "/v1/chat/completions", b'{"model": "\\ud800"}', 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b'{"model": "a\\udfffb"}', 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b'{"model": "\xed\xa0\x80"}', 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b'{"model": "demo", "top_p": NaN}', 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b'{"model": "demo", "top_p": 1e400}', 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b'\xef\xbb\xbf{"model": "demo"}', 400, "invalid_json"),
        ("POST", "/v1/chat/completions", '{"model": "demo"}'.encode("utf-16"), 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b'{"model": ' + b"1" * 9000 + b"}", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b'{"model": "' + b"x" * 900_000 + b'"}', 404, "model_not_found"),
        ("GET", "/v1/models/%ED%A0%80", b"", 404, "model_not_found"),
        ("POST", "/v1/chat/completions", b" " * 1_000_001, 413, "request_too_large"),
        ("POST", "/v1/images", b"{}", 404, "not_found"),
        ("GET", "/v1/chat/completions", b"", 405, "method_not_allowed"),
        ("POST", "/apps/none/v1/completions", b"{}", 404, "model_not_found"),
    ],
)
async def test_every_error_has_the_one_shape(
    world: World, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    async with world.client.request(method, world.url + path, data=body) as response:
        error = (await response.json())["error"]
        assert response.status == status
        assert set(error) == {"message", "type", "code", "param"} and error["code"] == code
        assert len(error["message"]) < 500


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("gzip", gzip.compress(b'{"model": "apps/demo"}', mtime=0), 200, ""),
        ("gzip", b"none", 400, "invalid_encoding"),
        ("br", b"{}", 415, "unsupported_encoding"),
        ("gzip", gzip.compress(b" " * 1_000_001, mtime=0), 413, "request_too_large"),
    ],
)
async def test_packed_bodies_are_unpacked_for_the_replica(
    world: World, encoding: str, body: bytes, status: int, code: str
) -> None:
    (runtime,) = await world.service(answer())
    headers = {"Content-Encoding": encoding}
    async with world.client.post(world.url + "/v1/completions", data=body, headers=headers) as response:
        assert response.status == status
        if code:
            assert (await response.json())["error"]["code"] == code
        else:
            assert runtime.seen[-1][1] == b'{"model": "apps/demo"}'


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: magic\r\n\r\n", b"417"),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: magic\r\n\r\n", b"417"),
        (b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: magic\r\n\r\n", b"417"),
    ],
)
async def test_what_is_no_request_has_the_one_shape_too(world: World, sent: bytes, status: bytes) -> None:
    url = URL(world.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(sent)
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.split()[1] == status
    assert set(json.loads(body)["error"]) == {"message", "type", "code", "param"}


@pytest.mark.parametrize("more", [b"", b"Expect: 100-continue\r\n"])
async def test_a_body_that_is_said_to_be_too_large_is_not_waited_for(world: World, more: bytes) -> None:
    url = URL(world.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000001\r\n" + more + b"\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()
    await writer.wait_closed()
    assert head.split()[1] == b"413"


async def test_who_asks_whether_to_send_a_body_is_told_to_and_answered(world: World) -> None:
    await world.service(answer())
    url, body = URL(world.url), b'{"model": "demo"}'
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    writer.close()
    await writer.wait_closed()


def test_a_body_of_very_many_parts_is_not_read() -> None:
    with pytest.raises(ApiError, match="lists and objects"):
        asked_of(b'{"model": "demo", "messages": [' + b"[]," * 1_000_000 + b"0]}")


async def test_large_bodies_are_read_elsewhere_and_answered_alike(world: World) -> None:
    await world.service(stream(*EVENTS))
    text = "Ünd so weiter. " * (INLINE_BYTES // 10)
    assert (await world.chat(messages=[{"role": "user", "content": text}])).status == 200
    wrong = await world.chat(model="none", messages=[{"role": "user", "content": text}])
    assert (wrong.status, (await wrong.json())["error"]["code"]) == (404, "model_not_found")
    missing = await world.chat(model=None, messages=[{"role": "user", "content": text}])
    assert (missing.status, (await missing.json())["error"]["code"]) == (400, "model_required")


async def test_draining_refuses_new_work_and_finishes_the_old(world: World) -> None:
    await world.service(stream(*EVENTS * 5))
    running = await world.chat(stream=True)
    world.gateway.proxy.drain()
    refused = await world.chat()
    assert refused.status == 503 and refused.headers["x-should-retry"] == "true"
    assert (await running.read()) == b"".join(EVENTS * 5)
    await asyncio.wait_for(world.gateway.proxy.wait_idle(), 1)


async def test_a_removed_service_finishes_its_streams(world: World) -> None:
    await world.service(stream(*EVENTS * 5))
    running = await world.chat(stream=True)
    world.publish()
    assert (await world.chat()).status == 404
    assert (await running.read()) == b"".join(EVENTS * 5)


async def test_web_pages_of_others_may_not_use_a_local_gateway(world: World) -> None:
    await world.service(answer())
    body = json.dumps({"model": "demo"})
    rebound = {"Host": "evil.example"}
    simple = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    for headers, code in ((rebound, "host_not_allowed"), (simple, "origin_not_allowed")):
        response = await world.client.post(f"{world.url}/v1/chat/completions", data=body, headers=headers)
        assert (response.status, (await response.json())["error"]["code"]) == (403, code)
        for path in ("/v1/models", "/metrics", "/healthz"):
            assert (await world.client.get(world.url + path, headers=headers)).status == 403
    text = await (await world.client.get(f"{world.url}/metrics")).text()
    assert 'llmservice_gateway_requests_total{code="403",service=""} 8.0' in text


async def test_metrics_count_by_service_and_code(world: World) -> None:
    await world.service(answer())
    await (await world.chat()).read()
    await (await world.chat("what/ever")).read()
    text = await (await world.client.get(f"{world.url}/metrics")).text()
    assert 'llmservice_gateway_requests_total{code="200",service="apps/demo"} 1.0' in text
    assert 'llmservice_gateway_requests_total{code="404",service=""} 1.0' in text
    assert 'llmservice_gateway_in_flight{service="apps/demo"} 0.0' in text
    assert (await world.client.get(f"{world.url}/healthz")).status == 200
