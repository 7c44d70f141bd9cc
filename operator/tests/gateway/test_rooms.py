"""Requests wait at the gateway: for room at a replica, for a replica at all; in turns, in bounds, and for a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gateway_world import Runtime, World, answer, die, stream  # type: ignore[import-not-found]

from llmservice_gateway.demand import Demand
from llmservice_gateway.places import Capacity
from llmservice_gateway.routing import Backend, Replica, Unready

EVENT = b'data: {"choices":[]}\n\n'
LOADING = Unready("Loading", "The model is being loaded.", retry_after=7)


class Slow:
    """An engine that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.order: list[str] = []
        self.came = asyncio.Condition()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        async with self.came:
            self.order.append(json.loads(await request.read()).get("user", ""))
            self.came.notify_all()
        await self.go.wait()
        return web.json_response({})

    async def have(self, count: int) -> None:
        async with self.came:
            await asyncio.wait_for(self.came.wait_for(lambda: len(self.order) >= count), 20)


async def held(world: World, count: int, name: str = "apps/demo") -> None:
    async with asyncio.timeout(20):
        while world.gateway.proxy.rooms.demand(name).held != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def asking(world: World, count: int, **fields: Any) -> AsyncIterator[list[asyncio.Task[aiohttp.ClientResponse]]]:
    tasks = [asyncio.create_task(world.chat(**fields)) for _ in range(count)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def patient(world: World, **limits: float) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, hold_seconds=60.0, **limits)


async def slow_replicas(world: World, count: int) -> tuple[list[Slow], list[Runtime], list[Replica]]:
    engines = [Slow() for _ in range(count)]
    runtimes = [await world.runtime(engine) for engine in engines]
    return engines, runtimes, [Replica(f"r{n}", runtime.url) for n, runtime in enumerate(runtimes)]


async def test_a_replica_gets_what_it_computes_and_a_new_one_works_at_once(world: World) -> None:
    patient(world)
    engines, _, replicas = await slow_replicas(world, 4)
    backend = Backend("apps", "demo", (replicas[0],), capacity=Capacity(sequences=6))
    world.publish(backend)
    async with asking(world, 32) as asked:
        await engines[0].have(8)
        await held(world, 24)
        assert world.gateway.proxy.in_flight("r0") == 8
        world.publish(replace(backend, replicas=tuple(replicas)))
        for engine in engines:
            await engine.have(8)  # from its first moment on
        assert world.gateway.proxy.rooms.demand("apps/demo").held == 0
        for engine in engines:
            engine.go.set()
        assert [response.status for response in await asyncio.gather(*asked)] == [200] * 32
        assert [len(engine.order) for engine in engines] == [8, 8, 8, 8]


async def test_an_engine_whose_queue_is_long_gets_less(world: World) -> None:
    patient(world)
    (engine,), _, (one,) = await slow_replicas(world, 1)
    backend = Backend("apps", "demo", (replace(one, waiting=5),), capacity=Capacity(sequences=6))
    world.publish(backend)
    async with asking(world, 12) as asked:
        await engine.have(5)
        await held(world, 7)
        world.publish(replace(backend, replicas=(one,)))
        await engine.have(8)
        engine.go.set()
        await asyncio.gather(*asked)


async def test_long_prompts_take_the_places_of_several(world: World) -> None:
    patient(world)
    (engine,), _, (one,) = await slow_replicas(world, 1)
    world.publish(Backend("apps", "demo", (one,), capacity=Capacity(64, kv_tokens=40_000)))
    async with asking(world, 12, prompt="x" * 40_000, max_tokens=10) as asked:  # some 10,000 tokens each
        await engine.have(5)
        await held(world, 7)
        assert engine.order.count("") == 5  # three have room in the cache, two wait there
        engine.go.set()
        await asyncio.gather(*asked)


async def test_what_generates_nothing_needs_no_place(world: World) -> None:
    patient(world)
    (engine,), runtimes, (one,) = await slow_replicas(world, 1)
    world.publish(Backend("apps", "demo", (one,), capacity=Capacity(1)))
    async with asking(world, 9):
        await engine.have(3)
        engine.go.set()
        response = await world.client.post(f"{world.url}/tokenize", json={"model": "demo", "prompt": "a"})
        assert response.status == 200 and "/tokenize" in {path for path, _ in runtimes[0].seen}


@pytest.mark.parametrize("shared", [False, True], ids=["keys", "users of one key"])
async def test_one_request_does_not_stand_behind_many_of_another(world: World, shared: bool) -> None:
    patient(world)
    (engine,), _, (one,) = await slow_replicas(world, 1)
    world.publish(Backend("apps", "demo", (one,), capacity=Capacity(1)))
    url = f"{world.url}/v1/chat/completions"

    async def ask(user: str) -> None:
        headers = {"Authorization": f"Bearer {'shared' if shared else user}"}
        body = {"model": "demo", "messages": [], "user": user}
        response = await world.client.post(url, json=body, headers=headers)
        assert response.status == 200

    asked = [asyncio.create_task(ask("many")) for _ in range(12)]
    await held(world, 9)
    asked.append(asyncio.create_task(ask("single")))
    await held(world, 10)
    engine.go.set()
    await asyncio.gather(*asked)
    assert "single" in engine.order[:6]


async def test_requests_wait_for_a_service_that_starts(world: World) -> None:
    patient(world)
    (runtime,) = await world.service(answer())
    (backend,) = world.gateway.proxy.table.backends.values()
    world.publish(replace(backend, replicas=(), unready=LOADING))
    async with asking(world, 5) as asked:
        await held(world, 5)
        assert runtime.seen == []
        world.publish(backend)
        assert [response.status for response in await asyncio.gather(*asked)] == [200] * 5


async def test_more_than_may_wait_are_refused_and_the_others_stay(world: World) -> None:
    patient(world)
    (engine,), _, (one,) = await slow_replicas(world, 1)
    backend = Backend("apps", "demo", unready=LOADING, max_held=3)
    world.publish(backend)
    async with asking(world, 3) as asked:
        await held(world, 3)
        response = await world.chat()
        assert response.status == 429 and 1 <= int(response.headers["Retry-After"]) <= 120
        error = (await response.json())["error"]
        assert error["code"] == "queue_full" and "endpoint.maxQueuedRequests" in error["message"]
        engine.go.set()
        world.publish(replace(backend, replicas=(one,)))
        assert [response.status for response in await asyncio.gather(*asked)] == [200] * 3


async def test_who_waits_too_long_is_told_why(world: World) -> None:
    world.publish(Backend("apps", "demo", unready=LOADING))
    response = await world.chat()
    assert (response.status, response.headers["Retry-After"]) == (503, "7")
    assert (await response.json())["error"]["code"] == "loading"
    (engine,), _, (one,) = await slow_replicas(world, 1)
    world.publish(Backend("apps", "demo", (one,), capacity=Capacity(1)))
    async with asking(world, 3):
        await engine.have(3)
        response = await world.chat()
        assert response.status == 503 and response.headers["Retry-After"]
        assert (await response.json())["error"]["code"] == "held_too_long"


@pytest.mark.parametrize(
    ("unready", "code"),
    [
        (Unready("OutOfMemory", "It needs 9 GiB.", final=True), "OutOfMemory"),
        (Unready("Draining", "It is being stopped.", held=False), "draining"),
        (None, "model_not_found"),
    ],
)
async def test_nobody_waits_for_what_will_not_come(world: World, unready: Unready | None, code: str) -> None:
    patient(world)
    world.publish(Backend("apps", "demo", unready=LOADING))
    async with asking(world, 3) as asked:
        await held(world, 3)
        world.publish(*[Backend("apps", "demo", unready=unready)] if unready else [])
        for response in await asyncio.wait_for(asyncio.gather(*asked), 20):
            assert (await response.json())["error"]["code"] == code
        response = await asyncio.wait_for(world.chat(), 20)
        assert (await response.json())["error"]["code"] == code


async def test_none_waits_where_none_may(world: World) -> None:
    patient(world)
    world.publish(Backend("apps", "demo", unready=LOADING, max_held=0))
    assert (await asyncio.wait_for(world.chat(), 20)).status == 503


async def test_a_stream_that_waits_gets_comments_and_then_its_events(world: World) -> None:
    patient(world, beat_seconds=0.05)
    await world.service(stream(EVENT, b"data: [DONE]\n\n"))
    (backend,) = world.gateway.proxy.table.backends.values()
    world.publish(replace(backend, replicas=(), unready=LOADING))
    response = await world.chat(stream=True)
    assert response.status == 200 and response.content_type == "text/event-stream"
    assert await response.content.readline() == b": waiting\n"
    world.publish(backend)
    text = await response.read()
    assert text.replace(b": waiting\n\n", b"").endswith(EVENT + b"data: [DONE]\n\n")


@pytest.mark.parametrize("handler", [answer({"error": {"message": "no"}}, 400), die])
async def test_what_fails_after_a_comment_is_an_event_without_done(world: World, handler: Any) -> None:
    patient(world, beat_seconds=0.05)
    await world.service(handler)
    (backend,) = world.gateway.proxy.table.backends.values()
    world.publish(replace(backend, replicas=(), unready=LOADING))
    response = await world.chat(stream=True)
    await response.content.readline()
    failed = Unready("OutOfMemory", "It needs 9 GiB.", final=True)
    world.publish(replace(backend, replicas=(), unready=failed) if handler is die else backend)
    text = await asyncio.wait_for(response.read(), 20)
    event = text.replace(b": waiting\n\n", b"").strip()
    assert json.loads(event.removeprefix(b"data: "))["error"]["message"] and b"[DONE]" not in text


async def test_whoever_waits_for_a_whole_answer_gets_no_comment(world: World) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, beat_seconds=0.02)
    world.publish(Backend("apps", "demo", unready=LOADING))
    assert (await world.chat()).status == 503


async def test_the_only_replica_is_asked_again_when_it_is_back(world: World) -> None:
    patient(world)
    (dead,) = await world.service(die)
    (backend,) = world.gateway.proxy.table.backends.values()
    good = await world.runtime(answer())
    async with asking(world, 1) as (asked,):
        await held(world, 1)
        world.publish(replace(backend, replicas=(), unready=LOADING))
        world.publish(replace(backend, replicas=(replace(backend.replicas[0], url=good.url),)))
        assert (await asked).status == 200
        assert len(dead.seen) == len(good.seen) == 1


async def test_bodies_are_bounded_over_all_and_given_back(world: World) -> None:
    patient(world)
    bodies = world.gateway.proxy.bodies
    bodies.limit = 100_000
    (engine,), _, (one,) = await slow_replicas(world, 1)
    backend = Backend("apps", "demo", unready=LOADING)
    world.publish(backend)
    async with asking(world, 3, user="x" * 30_000) as asked:
        await held(world, 3)
        response = await world.chat(user="x" * 30_000)
        assert response.status == 429 and response.headers["Retry-After"]
        assert (await response.json())["error"]["code"] == "queue_full"
        assert 90_000 < bodies.taken < 100_000
        engine.go.set()
        world.publish(replace(backend, replicas=(one,)))
        assert [response.status for response in await asyncio.gather(*asked)] == [200] * 3
    assert bodies.taken == 0


async def test_a_stream_keeps_no_body(world: World) -> None:
    await world.service(stream(EVENT, then="stall"))
    response = await world.chat(stream=True)
    await response.content.readany()
    assert world.gateway.proxy.bodies.taken == 0
    response.close()


async def test_who_leaves_while_waiting_leaves_nothing(world: World) -> None:
    patient(world)
    world.publish(Backend("apps", "demo", unready=LOADING))
    async with asking(world, 4):
        await held(world, 4)
    await asyncio.wait_for(world.gateway.proxy.wait_idle(), 10)
    assert world.gateway.proxy.rooms.held == world.gateway.proxy.running == world.gateway.proxy.bodies.taken == 0


async def test_draining_tells_those_who_wait(world: World) -> None:
    patient(world)
    world.publish(Backend("apps", "demo", unready=LOADING))
    async with asking(world, 2) as asked:
        await held(world, 2)
        world.gateway.proxy.drain()
        for response in await asyncio.wait_for(asyncio.gather(*asked), 20):
            assert response.status == 503 and (await response.json())["error"]["code"] == "draining"


async def test_what_is_asked_of_a_service_can_be_read(world: World) -> None:
    patient(world)
    demand = world.gateway.proxy.rooms.demand
    assert demand("apps/demo") == Demand("apps/demo")
    (engine,), _, (one,) = await slow_replicas(world, 1)
    world.publish(Backend("apps", "demo", (one,), capacity=Capacity(1)))
    async with asking(world, 7, prompt="x" * 4000, max_tokens=10) as asked:
        await engine.have(3)
        await held(world, 4)
        await asyncio.sleep(0.01)  # uvloop's clock tells milliseconds: within one of them nobody waits yet
        now = demand("apps/demo")
        assert (now.held, now.in_flight) == (4, 3)
        assert 4000 <= now.waiting_tokens < 4500 and 3000 <= now.in_flight_tokens < 3500
        assert now.arrivals_per_second > 0.1 and now.tokens_per_second > 100 and now.oldest_seconds > 0
        assert 0 < now.mean_requests <= 7
        engine.go.set()
        await asyncio.gather(*asked)
    now = demand("apps/demo")
    assert (now.held, now.in_flight, now.waiting_tokens, now.in_flight_tokens, now.oldest_seconds) == (0, 0, 0, 0, 0.0)
    assert demand("apps/demo").mean_requests <= now.mean_requests, "it fades: nobody is counted any more"


async def test_the_prompt_of_a_stream_waits_until_it_has_begun(world: World) -> None:
    demand = world.gateway.proxy.rooms.demand
    computed = asyncio.Event()

    async def begins(request: web.Request) -> web.StreamResponse:
        await computed.wait()
        return await stream(EVENT, then="stall")(request)  # type: ignore[no-any-return]

    runtime = await world.runtime(begins)
    world.publish(Backend("apps", "demo", (Replica("a", runtime.url),)))
    asked = [asyncio.create_task(world.chat(stream=streams, prompt="x" * 4000)) for streams in (True, False)]
    async with asyncio.timeout(20):
        while demand("apps/demo").in_flight < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        now = demand("apps/demo")
        assert 1000 <= now.waiting_tokens < 1100 and now.held_tokens == 0, "of one that is no stream nobody can tell"
        computed.set()
        response = await asked[0]
        assert await response.content.readany() == EVENT
        assert (demand("apps/demo").in_flight, demand("apps/demo").waiting_tokens) == (2, 0)
    asked[1].cancel()
    for one in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(one, aiohttp.ClientResponse):
            one.close()
    await asyncio.wait_for(world.gateway.proxy.wait_idle(), 20)
    assert demand("apps/demo").waiting_tokens == 0
