"""Answers that are no streams: clients get an answer or an OpenAI error, whatever an engine sends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from gateway_world import World, raw_server  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway.answers import ERROR_BYTES, SMALL_BYTES, Answers, told
from llmservice_gateway.dialects import apart
from llmservice_gateway.routing import Backend, Replica

MIB = 1 << 20


def sent(status: int, body: bytes, kind: str = "application/json", more: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return head.encode("latin-1") + more + b"\r\n" + body


async def engine(world: World, answer: bytes, *, without_end: bytes = b"", name: str = "demo") -> None:
    """Answers so; `without_end` again and again after it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
        writer.write(answer)
        await writer.drain()
        while without_end:
            writer.write(without_end)
            await writer.drain()

    replica = Replica(f"{name}-0", await raw_server(world.stack, talk))
    world.publish(*world.gateway.proxy.table.backends.values(), Backend("apps", name, (replica,)))


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (sent(500, b"<html>\n<h1>oops</h1>\x07", "text/html"), 500, "answered 500: <html> <h1>oops</h1>\\u0007"),
        (sent(500, b""), 500, "answered 500, and said no more."),
        (sent(404, b'{"detail":"Not Found"}'), 404, 'answered 404: {"detail":"Not Found"}'),
        (sent(503, b'["error"]', more=b"Retry-After: 7\r\n"), 503, 'answered 503: ["error"]'),
        (sent(302, b"", more=b"Location: http://elsewhere/\r\n"), 502, "answered 302"),
        (sent(999, b"{}"), 502, "answered 999"),
        (sent(500, b"data: {}\n\n", "text/event-stream"), 500, "answered 500: data: {}"),
        (sent(500, b"x" * 3 * MIB, "text/plain"), 500, "xxx..."),
    ],
)
async def test_what_is_no_answer_is_told_as_an_error(
    world: World, answer: bytes, status: int, says: str, streams: bool
) -> None:
    await engine(world, answer)
    response = await world.chat(stream=streams)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (status, "replica_error")
    assert says in error["message"] and len(error["message"]) < 500
    assert response.headers.get("Retry-After") == ("7" if status == 503 else None)
    assert "Location" not in response.headers


async def test_an_error_of_an_engine_is_passed_on_as_it_is(world: World) -> None:
    body = (
        b'{"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length", "param": null}}'
    )
    await engine(world, sent(400, body))
    response = await world.chat()
    assert (response.status, await response.read()) == (400, body)


async def test_a_client_that_was_promised_a_stream_gets_the_error_as_an_event(world: World) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, beat_seconds=0.05, hold_seconds=60)
    world.publish(Backend("apps", "demo"))
    response = await world.chat(stream=True)
    assert response.status == 200
    await engine(world, sent(500, b"<html>\noops", "text/html"))
    last = (await response.read()).split(b"\n\n")[-2]
    assert last.startswith(b'data: {"error": {"message": "The replica of apps/demo answered 500: <html> oops"')


@pytest.mark.parametrize("value", [b"a\x01b", b"\xff\xfe", b"a" * 9000])
async def test_a_header_that_no_client_could_read_is_left_out(
    world: World, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await engine(world, sent(200, b"{}", more=b"Cache-Control: " + value + b"\r\nX-Accel-Buffering: no\r\n"))
    response = await world.chat()
    assert (response.status, await response.read()) == (200, b"{}")
    assert "Cache-Control" not in response.headers and response.headers["X-Accel-Buffering"] == "no"
    assert not caplog.records


async def test_an_answer_without_end_is_given_up(world: World) -> None:
    world.gateway.proxy._answers = Answers(each=4 * MIB)
    endless = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
    await engine(world, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", without_end=endless)
    response = await world.chat()
    assert (response.status, (await response.json())["error"]["code"]) == (502, "answer_too_large")
    assert world.gateway.proxy._answers.taken == 0 and world.gateway.proxy.running == 0


async def test_an_answer_that_is_too_large_for_another_protocol_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "MOST_ANSWER", apart.INLINE_BYTES)
    await engine(world, sent(200, b'{"choices": [], "more": "%b"}' % (b"x" * apart.INLINE_BYTES)))
    async with world.client.post(f"{world.url}/apps/demo/generate", json={"inputs": "Hi"}) as response:
        told = await response.json()
    assert response.status == 502 and "The answer of apps/demo has more than" in told["error"]


async def test_large_answers_of_one_service_leave_room_for_small_ones_of_another(world: World) -> None:
    world.gateway.proxy._answers = answers = Answers(together=2 * MIB)
    large = b"x" * 3 * MIB
    waiting = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(large) + 1) + large
    hangs = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(waiting)
        await hangs.wait()

    large_one = Backend("apps", "large", (Replica("large-1", await raw_server(world.stack, talk)),))
    await engine(world, sent(200, b"x" * SMALL_BYTES), name="small")
    world.publish(large_one, world.gateway.proxy.table.backends["apps/small"])
    first = asyncio.create_task(world.chat("large"))
    async with asyncio.timeout(60):
        while answers.taken < 2 * MIB:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
    assert len(await (await world.chat("small")).read()) == SMALL_BYTES
    second = await world.chat("large")
    assert (second.status, (await second.json())["error"]["code"]) == (503, "no_room_for_answer")
    first.cancel()
    async with asyncio.timeout(60):
        while answers.taken:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
    hangs.set()


@given(st.integers(0, 999), st.one_of(st.binary(max_size=50), st.just(b"[" * 5000), st.just(b"x" * (ERROR_BYTES + 1))))
def test_whatever_it_is_clients_get_an_answer_or_an_error(status: int, body: bytes) -> None:
    code, headers, shown = told("apps/demo", status, {"Content-Type": "text/html", "Retry-After": "3"}, body)
    assert (code, shown) == (status, body) if 200 <= status < 300 else 400 <= code < 600
    assert headers["Retry-After"] == "3"
    assert b'"error"' in shown or code < 300
