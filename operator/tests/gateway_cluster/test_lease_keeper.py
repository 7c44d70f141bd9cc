"""When a gateway tells what is asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from cluster_objects import llmservice  # type: ignore[import-not-found]
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]
from gateway_world import World  # type: ignore[import-not-found]

from llmservice_api.demand_lease import decode
from llmservice_api.labels import DEMAND
from llmservice_gateway.cluster import lease
from llmservice_gateway.cluster.lease import Keeper
from llmservice_gateway.cluster.services import backend
from llmservice_kube.client import Client
from llmservice_kube.kinds import LEASE

HOUR = 3600.0


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


@asynccontextmanager
async def keeping(api: FakeApi, world: World) -> AsyncIterator[Keeper]:
    async with Client(api.access, sleep=lambda seconds: asyncio.sleep(0)) as client:
        keeper = Keeper(client, world.gateway.proxy.rooms, "llm", "me", {})
        world.gateway.proxy.rooms.waits = keeper.waits
        task = asyncio.create_task(keeper.run())
        try:
            yield keeper
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        made = World(stack)
        await made.open()
        made.publish(backend(llmservice()))
        made.gateway.proxy.limits = made.gateway.proxy.limits.__class__(hold_seconds=60)
        yield made


async def until(found: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not found():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


def held(api: FakeApi) -> int | None:
    made = api.objects.get((LEASE, "llm", "me"))
    if made is None:
        return None
    told = decode(made["metadata"]["annotations"][DEMAND]).services.get("apps/demo")
    return told.held if told else 0


async def test_the_first_that_waits_is_told_without_waiting_for_any_time(
    api: FakeApi, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "CHANGED_SECONDS", HOUR)
    monkeypatch.setattr(lease, "RENEW_SECONDS", HOUR)
    async with keeping(api, world):
        await until(lambda: held(api) == 0)
        asked = asyncio.create_task(world.chat())
        await until(lambda: held(api) == 1)
        asked.cancel()
        await asyncio.wait([asked])


async def test_what_changed_is_told_before_it_is_time_to_renew(
    api: FakeApi, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", HOUR)
    async with keeping(api, world):
        asked = [asyncio.create_task(world.chat(n=n)) for n in range(3)]
        await until(lambda: held(api) == 3)
        for task in asked:
            task.cancel()
        await until(lambda: held(api) == 0)


async def test_it_is_renewed_while_nothing_changes(api: FakeApi, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(lease, "CHANGED_SECONDS", 0.11)
    async with keeping(api, world):
        await until(lambda: held(api) == 0)
        times = {api.objects[LEASE, "llm", "me"]["spec"]["renewTime"]}

        def renewed() -> bool:
            times.add(api.objects[LEASE, "llm", "me"]["spec"]["renewTime"])
            return len(times) >= 3

        await until(renewed)


async def test_an_outage_is_told_once_and_the_end_deletes_the_lease(
    api: FakeApi, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "CHANGED_SECONDS", 0.11)
    monkeypatch.setattr(lease, "RENEW_SECONDS", HOUR)  # not once more after its end
    caplog.set_level("INFO", "llmservice_gateway.cluster.lease")
    api.fault = lambda method, path: refusal(500)
    async with keeping(api, world) as keeper:
        await until(lambda: len(api.requests) > 12)
        api.fault = lambda method, path: None
        await until(lambda: held(api) == 0)
        await until(lambda: "is written again" in caplog.text)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        await keeper.end()
        assert (LEASE, "llm", "me") not in api.objects
