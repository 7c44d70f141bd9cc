"""Plain requests: read as aiohttp reads them; with the first other one a connection goes over to aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_runtime.wire import lane
from llmservice_runtime.wire.plain import MOST, Answer, Plain, Verdict, head_of, read_plain, whole_answer
from llmservice_runtime.wire.server import PLAIN, ApiRunner

BODY = b'{"a":1}'


def request(body: bytes = BODY, path: str = "/plain", more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_what_came_is_a_request_its_beginning_or_another_one() -> None:
    whole = request(more="Content-Type: \t application/json \r\nconnection: Keep-Alive\r\nX-Empty:\r\n")
    found = read_plain(whole + b"POST /next")
    assert isinstance(found, Plain)
    assert (found.path, found.body, found.rest) == ("/plain", BODY, b"POST /next")
    assert found.headers.getall("content-type") == ["application/json"] and found.headers["X-Empty"] == ""
    assert {read_plain(whole[:length]) for length in range(len(whole))} == {Verdict.NEEDS_MORE}


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01",
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(path="/a?b=c"),
        request(path="/a%2Fb"),
        request(path="//a b"),
        request(more="Content-Length: 7\r\n"),
        request().replace(b"Length: 7", b"Length: +7"),
        request().replace(b"Length: 7", b"Length: 0x7"),
        request().replace(b"Length: 7", b"Length: 7, 7"),
        request().replace(b"Content-Length: 7\r\n", b""),
        request(more="Host: other\r\n"),
        request().replace(b"Host: localhost\r\n", b""),
        request(more="Accept: a\r\naccept: b\r\n"),
        request(more="Transfer-Encoding: chunked\r\n"),
        request(more="Content-Encoding: gzip\r\n"),
        request(more="Expect: 100-continue\r\n"),
        request(more="Connection: close\r\n"),
        request(more="Proxy-Connection: close\r\n"),
        request(more="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"),
        request(more="Origin: https://example.com\r\n"),
        request(more="Sec-Fetch-Site: cross-site\r\n"),
        request(more="A b: c\r\n"),
        request(more="A : c\r\n"),
        request(more="A: b\r\n c\r\n"),
        request(more="A: b\rc\r\n"),
        request(more="A: b\nC: d\r\n"),
        request(more="A: \x00\r\n"),
        request(more="A: é\r\n"),
        request(more=f"A: {'a' * 9000}\r\n"),
        b"POST /" + b"a" * 9000,
        request(b"x" * MOST),
    ],
)
def test_what_asks_a_server_for_more_is_another_one(raw: bytes) -> None:
    assert read_plain(raw) is Verdict.ANOTHER


def test_a_head_of_any_kind_is_read_at_once() -> None:
    """Before it is known who asks: nobody is to hold up all others by blanks."""
    heads = [request(more=f"A: a{blank * (7000 // len(blank))}b\r\n") for blank in (" ", "\t", ":", "a ")]
    heads += [request(more="a" * 7000), request(more="A:\r\n" * 1500), request(more="A" * 7000 + ":\x00\r\n")]
    heads = [head for head in heads for _ in range(50)]
    began = time.process_time()
    for head in heads:
        read_plain(head)
    assert time.process_time() - began < 2  # a value that is read in the square of its length takes a minute


NAMES = st.sampled_from(
    ["Host", "A", "x-b", "Content-Type", "content-length", "Connection", "TE", "A!", "Accept", "b_c"]
)
VALUES = st.text(st.sampled_from(" \tab09:,;é\x0b\x7f\r\n\0"), max_size=6) | st.sampled_from(
    ["7", "keep-alive", "close"]
)


@settings(max_examples=300)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.sampled_from(["/", "/v1/a", "/a//b", "/a:b.c~d"]))
async def test_what_is_plain_aiohttp_reads_the_same(fields: list[tuple[str, str]], path: str) -> None:
    raw = request(path=path, more="".join(f"{name}:{value}\r\n" for name, value in fields))
    found = read_plain(raw)
    if not isinstance(found, Plain):
        return
    loop = asyncio.get_running_loop()
    try:
        ((message, payload),), upgraded, _ = HttpRequestParser(
            BaseProtocol(loop), loop, 2**16, max_line_size=8190, max_field_size=8190, auto_decompress=False
        ).feed_data(raw.removesuffix(found.rest))
    except HttpProcessingError as error:
        raise AssertionError(raw) from error
    assert (message.method, message.path, message.should_close, upgraded) == ("POST", path, False, False)
    assert list(message.headers.items()) == list(found.headers.items())
    assert await payload.read() == found.body


def test_a_value_can_not_end_its_line() -> None:
    assert b"\r\nX: a b\r\n" in head_of(200, {"X": "a b"})
    with pytest.raises(ValueError, match="X: 'a"):
        head_of(200, {"X": "a\r\nY: b"})


def test_a_body_of_no_kind_is_told_to_be_bytes() -> None:
    assert b"\r\nContent-Type: application/octet-stream\r\n" in whole_answer(web.Response(body=b"x"), {})
    for other in (web.Response(text="x"), web.Response(), web.Response(status=204)):
        assert b"octet-stream" not in whole_answer(other, {})


class Server:
    """Says by whom each request was answered: `plain`, or aiohttp's `route`. What is `held` waits until it is free."""

    def __init__(self, **options: float) -> None:
        self.free, self.came, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._route)
        app[PLAIN] = self._take
        self.runner = ApiRunner(app, handler_cancellation=True, shutdown_timeout=0.1, **options)

    async def _route(self, request: web.Request) -> web.Response:
        return web.json_response({"by": "route", "body": (await request.read()).decode()})

    def _take(self, request: Plain) -> Answer | None:
        ways = {"/plain": self._plain, "/held": self._held, "/broken": self._broken, "/half": self._half}
        return ways.get(request.path)

    async def _plain(self, request: Plain) -> web.StreamResponse:
        return web.json_response({"by": "plain", "body": request.body.decode()})

    async def _held(self, request: Plain) -> web.StreamResponse:
        self.came.set()
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await self._plain(request)

    async def _broken(self, _: Plain) -> web.StreamResponse:
        raise RuntimeError("a fault")

    async def _half(self, request: Plain) -> web.StreamResponse:
        assert request.protocol.transport is not None
        request.begun = True
        request.protocol.transport.write(head_of(200, {"Transfer-Encoding": "chunked"}))
        return web.Response(status=500)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.runner.addresses[0][:2])


@contextlib.asynccontextmanager
async def serving(**options: float) -> AsyncIterator[Server]:
    made = Server(**options)
    await made.runner.setup()
    try:
        await web.TCPSite(made.runner, "127.0.0.1", 0).start()
        async with asyncio.timeout(60):
            yield made
    finally:
        await made.runner.cleanup()


async def said(reader: asyncio.StreamReader) -> tuple[str, str]:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nDate: " in head and b"\r\nServer: " in head
    body = json.loads(await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0])))
    return body["by"], body["body"]


async def test_a_connection_answers_plain_requests_one_after_the_other_and_others_from_then_on() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        writer.write(request(b"1"))
        assert await said(reader) == ("plain", "1")
        writer.write(request(b"2") + request(b"3") + request(b"4", "/elsewhere") + request(b"5"))
        assert [await said(reader) for _ in range(4)] == [
            ("plain", "2"), ("plain", "3"), ("route", "4"), ("route", "5"),
        ]  # fmt: skip
        writer.close()
        await writer.wait_closed()


async def test_one_that_comes_in_pieces_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        raw = request(b"in pieces")
        for piece in (raw[:9], raw[9:-9], raw[-9:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        assert (await said(reader))[1] == "in pieces"
        monkeypatch.setattr(lane, "TOGETHER_SECONDS", 0.01)
        writer.write(raw[:-3])
        await asyncio.sleep(0.1)
        writer.write(raw[-3:])
        assert await said(reader) == ("route", "in pieces")
        writer.close()
        await writer.wait_closed()


async def test_what_comes_behind_a_request_waits_without_end_of_memory() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        many = 2000
        writer.write(request(b"0", "/held") + b"".join(request(b"%d" % number * 100) for number in range(1, many)))
        await server.came.wait()
        (connection,) = server.runner.server.connections  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        assert isinstance(connection, lane.Lane) and len(connection._came) < MOST + (1 << 18)
        server.free.set()
        told = [await said(reader) for _ in range(many)]
        assert told[0] == ("plain", "0") and [body for _, body in told[1:]] == [f"{n}" * 100 for n in range(1, many)]
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("behind", [b"", request(), request(b"x" * 1000) * 80], ids=["nothing", "one", "many"])
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_client_that_leaves_ends_the_work(behind: bytes, at_once: bool) -> None:
    """Whatever it has sent behind its request, of which not all is read."""
    async with serving() as server:
        _, writer = await server.connect()
        writer.write(request(path="/held") + behind)
        await writer.drain()
        await server.came.wait()
        writer.transport.abort() if at_once else writer.close()
        await server.cancelled.wait()
        while server.runner.server.connections:  # type: ignore[union-attr]  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/broken", "/half"])
async def test_what_fails_ends_its_connection(path: str) -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        writer.write(request(path=path))
        assert (await reader.read()).count(b"HTTP/1.1 ") == (path == "/half")
        writer.close()


async def test_a_server_that_ends_lets_an_answer_end_and_closes_what_is_idle() -> None:
    async with serving() as server:
        idle, busy = await server.connect(), await server.connect()
        idle[1].write(request())
        assert (await said(idle[0]))[0] == "plain"
        busy[1].write(request(path="/held"))
        await server.came.wait()
        server.runner.close_connections()
        assert await idle[0].read() == b""
        server.free.set()
        assert (await said(busy[0]))[0] == "plain"
        assert await busy[0].read() == b""
        for _, writer in (idle, busy):
            writer.close()


async def test_the_end_of_a_server_ends_what_does_not() -> None:
    async with serving() as server:
        _, writer = await server.connect()
        writer.write(request(path="/held"))
        await server.came.wait()
        await server.runner.cleanup()
        await server.cancelled.wait()
        writer.close()


@pytest.mark.parametrize("sent", [b"", request(), request()[:20], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_an_idle_connection_is_closed_after_a_while(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "TOGETHER_SECONDS", 0.01)
    async with serving(keepalive_timeout=0.2) as server:
        reader, writer = await server.connect()
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK" if sent.endswith((BODY, b"\r\n\r\n")) else b"")
        writer.close()
