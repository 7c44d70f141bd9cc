"""Batch work at the gateway: behind live requests, with its word passed on, never cut off, and counted as they are."""

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
from gateway_world import Runtime, World, answer  # type: ignore[import-not-found]

from llmservice_gateway.places import Capacity
from llmservice_gateway.routing import Backend, Replica
from llmservice_runtime.wire.priority import BATCH, HEADER


class Engine:
    """Answers each request when it is told to. `order` has what came, by `user`."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.words: list[str | None] = []
        self._came = asyncio.Condition()
        self._go: dict[str, asyncio.Event] = {}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        user = json.loads(await request.read())["user"]
        async with self._came:
            self.order.append(user)
            self.words.append(request.headers.get(HEADER))
            self._came.notify_all()
        await self._go.setdefault(user, asyncio.Event()).wait()
        return web.json_response({})

    def go(self, *users: str) -> None:
        """Answer these."""
        for user in users:
            self._go.setdefault(user, asyncio.Event()).set()

    async def have(self, count: int) -> None:
        """Wait until so many came."""
        async with asyncio.timeout(20), self._came:
            await self._came.wait_for(lambda: len(self.order) >= count)


@asynccontextmanager
async def served(world: World, sequences: int, **fields: Any) -> AsyncIterator[tuple[Engine, Backend]]:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, hold_seconds=60.0)
    engine = Engine()
    runtime: Runtime = await world.runtime(engine)
    backend = Backend("apps", "demo", (Replica("r0", runtime.url),), capacity=Capacity(sequences), **fields)
    world.publish(backend)
    tasks: list[asyncio.Task[Any]] = []
    world.tasks = tasks
    try:
        yield engine, backend
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def ask(world: World, *users: str, batch: bool = False) -> list[asyncio.Task[aiohttp.ClientResponse]]:
    headers = {HEADER: BATCH} if batch else {}

    async def one(user: str) -> aiohttp.ClientResponse:
        body = {"model": "demo", "messages": [], "user": user}
        reply: aiohttp.ClientResponse
        reply = await world.client.post(f"{world.url}/v1/chat/completions", json=body, headers=headers)
        return reply

    made = [asyncio.create_task(one(user)) for user in users]
    world.tasks += made
    return made


async def held(world: World, count: int) -> Any:
    async with asyncio.timeout(20):
        while (demand := world.gateway.proxy.rooms.demand("apps/demo")).held != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return demand


def names(kind: str, count: int) -> list[str]:
    return [f"{kind}{number}" for number in range(count)]


async def test_it_leaves_places_to_live_requests_and_fills_none_of_theirs(world: World) -> None:
    async with served(world, 8) as (engine, _):
        ask(world, *names("b", 12), batch=True)
        await engine.have(6)
        demand = await held(world, 6)
        assert (demand.in_flight, demand.held) == (6, 6), "what waits is demand as any other"
        ask(world, *names("l", 10))
        await engine.have(16)  # as many as without batch work: the engine lets that pause
        assert set(engine.order[6:]) == set(names("l", 10))
        assert engine.words == [BATCH] * 6 + [None] * 10


async def test_what_is_live_goes_before_what_waits_longer(world: World) -> None:
    async with served(world, 1) as (engine, _):
        ask(world, "b0", batch=True)
        await engine.have(1)
        ask(world, "b1", batch=True)
        await held(world, 1)
        ask(world, "l0", "l1", "l2", "l3")
        await engine.have(4)  # a place, and two that wait at the engine
        await held(world, 2)
        engine.go("b0", "l0", "l1", "l2", "l3")
        await engine.have(5)
        assert set(engine.order[1:5]) == {"l0", "l1", "l2", "l3"}
        await engine.have(6)
        assert engine.order[5] == "b1"


async def test_it_takes_no_place_in_the_queue_of_live_requests(world: World) -> None:
    async with served(world, 1, max_held=2) as (engine, _):
        ask(world, "b0", batch=True)
        await engine.have(1)
        ask(world, "b1", "b2", batch=True)
        await held(world, 2)
        (refused,) = ask(world, "b3", batch=True)
        assert (await refused).status == 429
        ask(world, "l0", "l1", "l2", "l3", "l4")
        await engine.have(4)
        await held(world, 4)
        (refused,) = ask(world, "l5")
        assert (await refused).status == 429
        engine.go(*names("b", 3), *names("l", 5))
        await held(world, 0)


async def test_a_queue_at_the_engine_that_is_batch_works_own_keeps_nobody_live_away(world: World) -> None:
    async with served(world, 4) as (engine, backend):
        ask(world, *names("b", 3), batch=True)
        await engine.have(3)
        world.publish(replace(backend, replicas=(replace(backend.replicas[0], waiting=3),)))  # they gave way there
        ask(world, *names("l", 6))
        await engine.have(9)


async def test_an_answer_is_waited_for_however_long_live_requests_come(world: World) -> None:
    async with served(world, 4) as (engine, _):
        world.gateway.proxy.limits = replace(world.gateway.proxy.limits, answer_seconds=0.2)
        (work,) = ask(world, "b0", batch=True)
        (live,) = ask(world, "l0")
        assert (await live).status == 504
        engine.go("b0")
        assert (await work).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/api/chat"])
async def test_a_word_that_is_none_is_refused_by_name(world: World, path: str) -> None:
    await world.service(answer())
    reply = await world.client.post(f"{world.url}{path}", json={"model": "demo"}, headers={HEADER: "urgent"})
    text = await reply.text()
    assert reply.status == 400 and HEADER in text and "urgent" in text and "batch" in text


async def test_the_access_log_says_so(world: World) -> None:
    await world.service(answer())
    for word in (BATCH, "live"):
        reply = await world.client.post(
            f"{world.url}/v1/chat/completions", json={"model": "demo", "messages": []}, headers={HEADER: word}
        )
        assert reply.status == 200
    assert [json.loads(text).get("priority") for text in world.lines] == [BATCH, None]
