"""Streams at the level of bytes: however an engine frames and cuts them, clients get whole events, and all of them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import aiohttp
import pytest
from gateway_world import World, raw_server  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from llmservice_gateway.engine import EngineError, read_head
from llmservice_gateway.framing import Chunked, FramingError, Sized, UntilEnd
from llmservice_gateway.relay import FIRST_LINES, goes_on, socket_of, whole_chunks, whole_events
from llmservice_gateway.routing import Backend, Replica

EVENTS = [f'data: {{"choices":[],"n":{n},"x":"{"x" * (n % 7) * 50}"}}\n\n'.encode() for n in range(40)]
DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Engine:
    """Sends the same pieces to everyone, then ends the connection unless it is to be `kept`."""

    def __init__(self, pieces: Sequence[bytes], *, kept: bool = False, pause: float = 0.001) -> None:
        self.pieces = pieces
        self.kept = kept
        self.pause = pause
        self.connections = 0
        self.sent = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
                await asyncio.sleep(self.pause)
            if not self.kept:
                return


async def engine(world: World, pieces: Sequence[bytes], *, kept: bool = False, pause: float = 0.001) -> Engine:
    made = Engine(pieces, kept=kept, pause=pause)
    world.publish(Backend("apps", "demo", (Replica("one", await raw_server(world.stack, made)),)))
    return made


def cut(data: bytes, dice: random.Random, count: int) -> list[bytes]:
    places = sorted({0, len(data), *(dice.randrange(len(data)) for _ in range(count))})
    return [data[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("seed", range(12))
async def test_however_a_stream_is_cut_it_arrives_whole(world: World, seed: int) -> None:
    dice, body = random.Random(seed), b"".join(EVENTS) + DONE
    chunks = cut(body, dice, seed * 6)
    framed = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunk, chunks)) + LAST
    made = await engine(world, cut(framed, dice, dice.randrange(60)), kept=True)
    world.keeping()
    for _ in range(2):
        response = await world.chat(stream=True)
        assert await asyncio.wait_for(response.read(), 20) == body
    assert made.connections == 1  # the answer's end is found, so the connection serves the next one


@pytest.mark.parametrize(
    "head", [b"Content-Length: %d\r\n\r\n" % len(b"".join(EVENTS)), b"\r\n", b"Connection: close\r\n\r\n"]
)
async def test_other_framings_arrive_whole_too(world: World, head: bytes) -> None:
    await engine(world, [HEAD + head, *EVENTS])
    response = await world.chat(stream=True)
    assert await asyncio.wait_for(response.read(), 20) == b"".join(EVENTS)


@pytest.mark.parametrize("seed", range(8))
async def test_wherever_a_stream_breaks_an_error_event_follows_whole_events(world: World, seed: int) -> None:
    dice = random.Random(seed)
    framed = b"".join(map(chunk, EVENTS))
    broken = framed[: dice.randrange(len(EVENTS[0]) + 10, len(framed))]
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *cut(broken, dice, 20)])
    got = await asyncio.wait_for((await world.chat(stream=True)).read(), 20)
    *events, error = [event + b"\n\n" for event in got.split(b"\n\n")[:-1]]
    assert events == EVENTS[: len(events)] and events
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "replica_lost"


async def test_a_stream_that_is_no_http_any_more_ends_with_an_error_event(world: World) -> None:
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk(EVENTS[0]), b"what\r\n"], kept=True)
    got = await asyncio.wait_for((await world.chat(stream=True)).read(), 20)
    assert got.startswith(EVENTS[0] + b'data: {"error"')


async def test_an_old_client_gets_the_stream_without_chunks(world: World) -> None:
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *map(chunk, EVENTS), LAST])
    url, body = URL(world.url), b'{"model": "demo", "stream": true}'
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        b"POST /v1/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    head, _, got = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"chunked" not in head.lower() and got == b"".join(EVENTS)


def some(data: bytes) -> int:
    return len(data) // 3


def none(data: bytes) -> int:
    raise BlockingIOError


def half_of_all(data: bytes) -> int:
    return random.choice((0, len(data), some(data)))


@pytest.mark.parametrize("takes", [some, none, half_of_all])
async def test_what_the_kernel_does_not_take_at_once_comes_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch, takes: Callable[[bytes], int]
) -> None:
    written = list[int]()

    def write(socket: int, data: bytes) -> int:
        written.append(takes(data))
        return os.write(socket, data[: written[-1]])

    monkeypatch.setattr("llmservice_gateway.relay.write", write)
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *map(chunk, EVENTS), chunk(DONE) + LAST])
    assert await asyncio.wait_for((await world.chat(stream=True)).read(), 20) == b"".join(EVENTS) + DONE
    assert written or takes is none


async def test_a_client_whose_socket_breaks_is_gone_and_its_engine_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(number: int, data: bytes) -> int:
        with socket.socket(fileno=os.dup(number)) as same:
            same.shutdown(socket.SHUT_RDWR)
        return os.write(number, data)  # BrokenPipeError

    monkeypatch.setattr("llmservice_gateway.relay.write", write)
    pieces = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk(EVENTS[0])] * 2000]
    made = await engine(world, pieces, pause=0.01)
    response = await world.chat(stream=True)
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(response.read(), 20)
    await asyncio.wait_for(world.gateway.proxy.wait_idle(), 20)
    assert made.sent < len(b"".join(pieces)) // 2


async def test_a_client_that_does_not_read_holds_up_its_engine_and_nobody_else(world: World) -> None:
    """What an engine has said and nobody took is bounded; when the client goes on, all of it comes."""
    big = b"data: " + b"x" * 1_000_000 + b"\n\n"
    slow = await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk(big)] * 60, LAST])
    response = await world.chat(stream=True)
    before = -1
    while before != slow.sent:  # until it is held up
        before = slow.sent
        await asyncio.sleep(0.2)
    assert slow.sent < 40_000_000
    assert len(await asyncio.wait_for(response.read(), 60)) == 60 * len(big)


async def test_a_client_that_reads_nothing_for_long_is_let_go_and_its_place_is_free(world: World) -> None:
    big = b"data: " + b"x" * 1_000_000 + b"\n\n"
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk(big)] * 60, LAST])
    world.impatient()
    rooms = world.gateway.proxy.rooms
    response = await world.chat(stream=True)
    assert rooms.running == 1
    await asyncio.wait_for(rooms.wait_idle(), 60)
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(response.read(), 60)


async def test_a_client_that_reads_slowly_is_waited_for(world: World) -> None:
    """It takes a little within each bound, and the bytes that its kernel took move on."""
    big = b"data: " + b"x" * 1_000_000 + b"\n\n"
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk(big)] * 10, LAST])
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, idle_seconds=4)
    response = await world.chat(stream=True)
    size = 0
    while size < 10 * len(big):
        part = await asyncio.wait_for(response.content.read(1 << 20), 60)
        assert part
        size += len(part)
        await asyncio.sleep(0.1)
    assert size == 10 * len(big)


async def test_a_connection_whose_last_client_was_slow_serves_the_next_one(world: World) -> None:
    big = b"data: " + b"x" * 30_000_000 + b"\n\n"
    made = await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk(big) + LAST], kept=True)
    world.keeping()
    for _ in range(3):
        response = await world.chat(stream=True)
        assert len(await asyncio.wait_for(response.read(), 60)) == len(big)
    assert made.connections == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"SMTP 220 hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 2000,
    ],
)
async def test_an_engine_that_speaks_no_http_is_lost(world: World, sent: bytes) -> None:
    await engine(world, [sent])
    response = await asyncio.wait_for(world.chat(), 20)
    assert response.status in (503, 422)


async def test_an_answer_that_is_announced_comes(world: World) -> None:
    await engine(world, [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n\r\n", HEAD + b"\r\n", *EVENTS])
    assert await (await world.chat(stream=True)).read() == b"".join(EVENTS)


PARTS = st.lists(st.binary(min_size=1, max_size=30), max_size=8)


@given(PARTS, st.lists(st.binary(max_size=5), max_size=2), st.data())
def test_chunks_are_found_wherever_they_are_cut(parts: list[bytes], trailers: list[bytes], data: st.DataObject) -> None:
    ends = b"".join(b"T: " + line.replace(b"\n", b"") + b"\r\n" for line in trailers)
    framed = b"".join(map(chunk, parts)) + b"0;x=y\r\n" + ends + b"\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(framed)))) | {0, len(framed)})
    framing, body = Chunked(), b""
    for start, end in pairwise(cuts):
        assert not framing.done
        piece = framed[start:end]
        if framing.between and whole_chunks(piece):
            plain = Chunked()
            assert plain.feed(piece) and plain.between and not plain.done
        body += framing.feed(piece)
    assert framing.done and not framing.excess and body == b"".join(parts)
    framing.feed(b"x")
    assert framing.excess


@given(st.integers(1, 5000), st.integers(-3, 3), st.sampled_from([b"%x\r\n", b"%X\r\n", b"0%x\r\n", b"%x;a=b\r\n"]))
def test_a_chunk_that_is_known_by_its_first_line_is_one(size: int, more: int, line: bytes) -> None:
    framed = line % size + b"x" * max(0, size + more - 2) + b"\n\n\r\n"
    if framed.startswith(FIRST_LINES.get(len(framed), ())):
        assert whole_chunks(framed)


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    whole_chunks(data)
    try:
        Chunked().feed(data)
        read_head(data)
    except (FramingError, EngineError):
        return


@pytest.mark.parametrize("line", [b"0x5", b"+5", b"-5", b" 5", b"1_0", b"5 ", b"", b"0"])
def test_what_others_would_read_otherwise_is_not_passed_on_as_it_came(line: bytes) -> None:
    assert not whole_chunks(line + b"\r\n" + b"x" * 16 + b"\r\n") and not whole_chunks(line + b"\r\nabc\n\n\r\n")


@pytest.mark.parametrize("end", [b"XX", b"\nX", b"\rX", b"\n\r"])
def test_a_chunk_ends_where_it_says(end: bytes) -> None:
    framed = b"5\r\nabcde" + end + b"1\r\nf\r\n"
    assert not whole_chunks(framed)
    for cut_at in range(len(framed)):
        framing = Chunked()
        with pytest.raises(FramingError):
            framing.feed(framed[:cut_at])
            framing.feed(framed[cut_at:])


@pytest.mark.parametrize("size", [1, 1000])
def test_an_event_that_comes_in_many_pieces_is_looked_at_as_a_whole_at_its_ends_alone(size: int) -> None:
    """By what is looked at, since times say nothing on a busy machine."""
    event = b"data: " + b"x" * 50 * size + b"\n\n"
    looked: list[int] = []
    rest = bytearray()
    for start in range(0, len(event), size):
        piece = event[start : start + size]
        if rest and goes_on(rest, piece):
            rest += piece
            continue
        looked.append(start)
        whole, left = whole_events(bytes(rest) + piece)
        rest = bytearray(left)
    assert whole == event and not rest and len(looked) <= 3


def test_sizes_and_ends() -> None:
    sized = Sized(3)
    assert (sized.feed(b"ab"), sized.end(), sized.feed(b"cd"), sized.end(), sized.excess) == (
        b"ab",
        False,
        b"c",
        True,
        True,
    )
    until = UntilEnd()
    assert [until.feed(b"x"), until.done, until.end(), until.done] == [b"x", False, True, True]
    head, framing = read_head(b"HTTP/1.0 204 No\r\nA: 1\r\na: 2")
    assert (head.status, head.headers, head.keep, framing.done) == (204, {"a": "1, 2"}, False, True)


@pytest.mark.parametrize("size", [10, 4_000_000])
async def test_a_client_that_does_not_take_the_end_of_a_stream_is_let_go_too(world: World, size: int) -> None:
    """The replica is done with it, and still it has a place, which others may wait for."""
    big = b"data: " + b"x" * 20_000_000 + b"\n\n"
    rest = b"data: " + b"y" * size + b"\n\n"
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk(big) + chunk(rest) + LAST])
    world.impatient()
    response = await world.chat(stream=True)
    await asyncio.wait_for(world.gateway.proxy.rooms.wait_idle(), 60)
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(response.read(), 60)


async def test_the_head_of_a_stream_comes_before_its_first_whole_event(world: World) -> None:
    """Clients wait for it with shorter bounds than for the first token."""
    half = EVENTS[0][:9]
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(half), b"", chunk(EVENTS[0][9:]) + LAST])
    response = await world.chat(stream=True)
    assert response.status == 200
    assert await asyncio.wait_for(response.read(), 20) == EVENTS[0]


@pytest.mark.parametrize("kept", [True, False])
async def test_a_stream_that_comes_in_one_piece_is_passed_on_whole(world: World, *, kept: bool) -> None:
    body = b"".join(EVENTS) + DONE
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(body) + LAST], kept=kept)
    for _ in range(2):
        assert await asyncio.wait_for((await world.chat(stream=True)).read(), 20) == body
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(EVENTS[1]) + chunk(EVENTS[0][:9])])
    got = await asyncio.wait_for((await world.chat(stream=True)).read(), 20)
    assert got.startswith(EVENTS[1] + b'data: {"error"')


@pytest.mark.parametrize("end", [b"", b"0\r\n", chunk(b"data: mo"), b"what\r\n"])
async def test_a_stream_whose_engine_breaks_after_its_last_event_is_whole(world: World, end: bytes) -> None:
    """No client reads on after [DONE], and none is told of an error there."""
    await engine(world, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *map(chunk, EVENTS), chunk(DONE), end])
    assert await asyncio.wait_for((await world.chat(stream=True)).read(), 20) == b"".join(EVENTS) + DONE


async def test_unfinished_events_of_all_streams_together_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmservice_gateway.relay.EVENTS_LIMIT", 100_000)
    piece = b"x" * 40_000
    endless = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk(b"data: "), *[chunk(piece)] * 3]
    await engine(world, [*endless, chunk(b"\n\n") + LAST], pause=0.05)
    kept = world.gateway.proxy._kept
    answers = await asyncio.gather(*(world.chat(stream=True) for _ in range(3)))
    bodies = asyncio.gather(*(asyncio.wait_for(response.read(), 20) for response in answers))
    while not bodies.done():
        assert kept.size <= 100_000
        await asyncio.sleep(0.01)
    assert await bodies == [b"data: " + 3 * piece + b"\n\n"] * 3 and kept.size == 0


def test_below_tls_nothing_is_written_past_it() -> None:
    with socket.socket() as plain:
        assert socket_of(asyncio.Transport({"socket": plain})) == plain.fileno()
        assert socket_of(asyncio.Transport({"socket": plain, "sslcontext": object()})) == -1
        assert socket_of(asyncio.Transport()) == -1
