"""What becomes of requests whose replica, or whose connection, ends under them; and that nothing is left of them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from gateway_world import World, answer, die, raw_server, stream  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway import suspects
from llmservice_gateway.places import Capacity, Size
from llmservice_gateway.routing import Backend, Replica
from llmservice_gateway.suspects import DEATHS, MOST, SECONDS, Suspects

EVENT = b'data: {"choices":[]}\n\n'


class Closing:
    """A bare engine: answers `answers` requests on each connection, and hangs up when one more comes on it."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.connections = 0
        self.requests = 0
        self.closed_by_client = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for number in range(self.answers + 1):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                self.closed_by_client.set()
                return
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            self.requests += 1
            if number < self.answers:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


async def closing(world: World, answers: int) -> Closing:
    engine = Closing(answers)
    url = await raw_server(world.stack, engine)
    world.publish(Backend("apps", "demo", (Replica("one", url),)))
    return engine


async def test_a_kept_connection_that_the_engine_closes_costs_no_request(world: World) -> None:
    engine = await closing(world, answers=1)
    assert [(await world.chat(n=n)).status for n in range(6)] == [200] * 6
    assert engine.connections == 6 and engine.requests == 11


async def test_a_new_connection_that_breaks_is_not_tried_again_on_the_same_replica(world: World) -> None:
    engine = await closing(world, answers=0)
    assert (await world.chat()).status == 503
    assert engine.requests == 1


async def test_idle_connections_are_closed_before_an_engine_would(world: World) -> None:
    assert world.gateway.proxy.limits.keep_seconds < 1
    engine = await closing(world, answers=9)
    assert (await world.chat()).status == 200
    await asyncio.wait_for(engine.closed_by_client.wait(), 10)


async def test_what_no_replica_took_is_offered_to_every_one(world: World) -> None:
    full = answer({"error": {"message": "full"}}, 429, {"Retry-After": "7"})
    runtimes = await world.service(full, full, full, answer())
    gone = Replica("gone", "http://127.0.0.1:1")
    (backend,) = world.gateway.proxy.table.backends.values()
    world.publish(replace(backend, replicas=(gone, *backend.replicas)))
    assert (await world.chat()).status == 200
    assert [len(runtime.seen) for runtime in runtimes] == [1, 1, 1, 1]


async def test_a_request_that_ends_its_engines_costs_two_and_is_told_so(world: World) -> None:
    async def picky(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await (die if b"poison" in await request.read() else answer())(request)
        return response

    runtimes = await world.service(*[picky] * 5)
    for _ in range(3):  # whoever asks again is refused as well
        response = await world.chat(messages=[{"role": "user", "content": "poison"}])
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (422, "request_quarantined")
        assert response.headers["x-should-retry"] == "false" and "10 minutes" in error["message"]
    assert sum(len(runtime.seen) for runtime in runtimes) == 2
    assert (await world.chat()).status == 200


async def test_a_stream_that_ends_its_engine_counts_too(world: World) -> None:
    runtimes = await world.service(*[stream(EVENT, then="die")] * 3)
    for _ in range(2):
        assert b"replica_lost" in await (await world.chat(stream=True)).read()
    assert (await world.chat(stream=True)).status == 422
    assert sum(len(runtime.seen) for runtime in runtimes) == 2


async def test_those_who_were_beside_it_are_served(world: World) -> None:
    """One of ten ends the replica that had them all; the next one gets them one by one."""
    together, two_is_there = asyncio.Barrier(11), asyncio.Event()

    async def first(request: web.Request) -> web.StreamResponse:
        await together.wait()
        await two_is_there.wait()
        response: web.StreamResponse = await die(request)
        return response

    async def second(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await (die if b"poison" in await request.read() else answer())(request)
        return response

    one, two = await world.runtime(first), await world.runtime(second)
    world.publish(Backend("apps", "demo", (Replica("one", one.url),)))
    asked = [asyncio.create_task(world.chat(user="poison" if n == 4 else str(n))) for n in range(10)]
    await asyncio.wait_for(together.wait(), 30)
    world.publish(Backend("apps", "demo", (Replica("one", one.url), Replica("two", two.url))))
    two_is_there.set()
    statuses = [response.status for response in await asyncio.wait_for(asyncio.gather(*asked), 30)]
    assert statuses == [422 if n == 4 else 200 for n in range(10)]


async def test_a_replica_that_was_told_to_end_makes_nobody_a_suspect(world: World) -> None:
    async def drained(request: web.Request) -> web.StreamResponse:
        world.publish(Backend("apps", "demo", (Replica("two", world.second),)))
        response: web.StreamResponse = await die(request)
        return response

    one, two = await world.runtime(drained), await world.runtime(answer())
    world.second = two.url
    for _ in range(3):
        world.publish(Backend("apps", "demo", (Replica("one", one.url), Replica("two", two.url))))
        assert (await world.chat()).status in (200, 503)
    assert (await world.chat()).status == 200


async def test_nothing_is_left_of_thousands_of_requests_that_leave_at_any_time(world: World) -> None:
    dice = random.Random(11)

    async def any_of(request: web.Request) -> web.StreamResponse:
        kind = dice.randrange(6)
        await asyncio.sleep(dice.random() * 0.02)
        handlers = [
            answer(),
            answer({"error": {}}, 503),
            die,
            stream(*[EVENT] * 4),
            stream(EVENT, then="die"),
            stream(EVENT, then="stall"),
        ]
        response: web.StreamResponse = await handlers[kind](request)
        return response

    await world.service(*[any_of] * 3)
    (backend,) = world.gateway.proxy.table.backends.values()
    world.publish(replace(backend, capacity=Capacity(4), max_held=30))

    async def visit(number: int) -> None:
        try:
            async with asyncio.timeout(dice.random() * 0.08):
                await (await world.chat(stream=True, seed=number)).read()
        except (TimeoutError, aiohttp.ClientError):
            return

    for start in range(0, 5000, 50):
        await asyncio.wait_for(asyncio.gather(*(visit(start + n) for n in range(50))), 60)
    proxy = world.gateway.proxy

    async def left() -> dict[str, object]:
        text = await (await world.client.get(f"{world.url}/metrics")).text()
        demand = proxy.rooms.demand("apps/demo")
        return {
            "asked": (demand.held, demand.in_flight, demand.waiting_tokens, demand.in_flight_tokens),
            "running": proxy.running,
            "held": proxy.rooms.held,
            "bytes": proxy.bodies.taken,
            "loads": set(proxy.rooms.loads("apps/demo").values()),
            "shown": 'llmservice_gateway_in_flight{service="apps/demo"} 0.0' in text,
        }

    nothing = {"asked": (0, 0, 0, 0), "running": 0, "held": 0, "bytes": 0, "loads": {Size()}, "shown": True}
    for _ in range(500):  # requests of clients that are gone may be on their way still
        if await left() == nothing:
            return
        await asyncio.sleep(0.02)
    assert await left() == nothing


@given(st.lists(st.tuples(st.binary(max_size=2), st.integers(0, 1200)), max_size=40), st.binary(max_size=2))
def test_deaths_are_counted_and_forgotten(events: list[tuple[bytes, int]], asked: bytes) -> None:
    known, now = Suspects(), 0.0
    for digest, later in events:
        now += later
        known.forget_old(now)
        known.died(digest, now)
    assert (known.deaths(asked, now) > 0) == any(
        digest == asked and sum(later for _, later in events[at + 1 :]) < SECONDS
        for at, (digest, _) in enumerate(events)
    )
    assert known.deaths(asked, now) <= sum(digest == asked for digest, _ in events)
    known.forget_old(now + SECONDS)
    assert known.none


def test_what_is_remembered_is_bounded() -> None:
    known = Suspects()
    for number in range(MOST + 10):
        known.died(str(number).encode(), 0.0)
    assert known.deaths(b"0", 0.0) == 0 and known.deaths(str(MOST + 9).encode(), 0.0) == 1 < DEATHS


async def test_a_suspect_has_its_turn_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "TURN_SECONDS", 0.05)
    turns = suspects.Turns()
    async with turns.turn("a"), asyncio.timeout(5), turns.turn("a"):
        pass
    async with asyncio.timeout(5), turns.turn("a"):
        pass
