"""An adapter by its name: who gets its requests, who waits for it, and what others are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from gateway_world import Runtime, World, answer  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.gateway_keys import new_key, record_of
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.keys.sight import Sight
from llmservice_gateway.naming import asked_of, with_adapter
from llmservice_gateway.routing import (
    Adapter,
    AmbiguousModelError,
    Backend,
    Meant,
    Replica,
    Table,
    UnknownAdapterError,
    UnknownModelError,
    Unready,
)

LABELS = st.text("abc", min_size=1, max_size=2)
ADAPTERS = st.sets(LABELS, max_size=3).map(lambda names: tuple(Adapter(name) for name in sorted(names)))
TABLES = st.dictionaries(st.tuples(LABELS, LABELS), ADAPTERS, max_size=8).map(
    lambda found: Table({f"{space}/{name}": Backend(space, name, adapters=of) for (space, name), of in found.items()})
)
IDLE = Unready("Idle", "A request starts it.")
USAGE = {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}


@given(TABLES, LABELS)
def test_an_adapter_is_meant_by_its_services_names_and_its_own(table: Table, other: str) -> None:
    for full, backend in table.backends.items():
        for name in (full, backend.name):
            unique = name == full or sum(one.name == name for one in table.backends.values()) == 1
            for adapter in backend.adapters:
                if unique:
                    assert table.meant(f"{name}:{adapter.name}") == Meant(backend, adapter.name)
                else:
                    with pytest.raises(AmbiguousModelError) as caught:
                        table.meant(f"{name}:{adapter.name}")
                    assert f"{full}:{adapter.name}" in caught.value.candidates
            if unique and backend.adapter(other) is None:
                with pytest.raises(UnknownAdapterError):
                    table.meant(f"{name}:{other}")
        assert table.meant(full) == Meant(backend)
    with pytest.raises(UnknownModelError):
        table.meant(f"no/service:{other}")


def test_whoever_runs_the_gateway_names_adapters_too() -> None:
    demo = Backend("apps", "demo", adapters=(Adapter("sql"),))
    aliases = {"sql": "apps/demo:sql", "gpt:4": "apps/demo", "gone": "apps/demo:gone"}
    table = Table({"apps/demo": demo, "ml/x": Backend("ml", "x")}, aliases)
    assert table.meant("sql") == table.meant("gpt:4:sql") == Meant(demo, "sql")
    assert table.meant("gpt:4") == Meant(demo)
    with pytest.raises(UnknownAdapterError):
        table.meant("gone")
    assert table.only(demo).aliases == aliases and not table.only(table.backends["ml/x"]).aliases
    seen = Sight().of(record_of(new_key(), ["apps/*"]), table)
    assert seen.meant("sql") == Meant(demo, "sql"), "a key that may use a service may use its adapters"
    assert not Sight().of(record_of(new_key(), ["ml/*"]), table).aliases


def test_the_same_prompt_belongs_elsewhere_with_another_adapter() -> None:
    asked = asked_of(b'{"model":"demo","messages":[{"role":"user","content":"Hi"}]}')
    keys = {with_adapter(asked, adapter).key for adapter in ("", "sql", "law")}
    assert len(keys) == 3 and with_adapter(asked, "") == asked


async def served(world: World, loaded: Sequence[Sequence[str]], *adapters: Adapter) -> list[Runtime]:
    """A service `apps/demo` with these adapters; `loaded` has those of each replica."""
    runtimes: list[Runtime] = [await world.runtime(answer(USAGE)) for _ in loaded]
    replicas = tuple(
        Replica(f"demo-{number}", runtime.url, adapters=frozenset(names))
        for number, (runtime, names) in enumerate(zip(runtimes, loaded, strict=True))
    )
    world.publish(Backend("apps", "demo", replicas, IDLE, adapters=adapters))
    return runtimes


def loads(world: World, *adapters: str) -> None:
    """Every replica has these from now on."""
    demo = world.gateway.proxy.table.backends["apps/demo"]
    having = tuple(replace(replica, adapters=frozenset(adapters)) for replica in demo.replicas)
    world.publish(replace(demo, replicas=having))


def models(runtime: Runtime) -> list[str]:
    return [json.loads(body)["model"] for _, body in runtime.seen]


async def test_its_requests_go_to_replicas_that_have_it(world: World) -> None:
    without, having = await served(world, [[], ["sql"]], Adapter("law"), Adapter("sql"))
    for model in ("demo:sql", "apps/demo:sql"):
        for number in range(6):
            response = await world.chat(model, messages=[{"role": "user", "content": str(number)}])
            assert response.status == 200
    for model in ("sql", "demo:sql", "apps/demo:sql"):
        url = f"{world.url}/apps/demo/v1/chat/completions"
        async with world.client.post(url, json={"model": model, "messages": []}) as response:
            assert response.status == 200
    body = {"model": "demo:sql", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    async with world.client.post(f"{world.url}/v1/messages", json=body) as response:
        assert response.status == 502, "an answer of no protocol; the request is what counts"
    assert without.seen == [] and models(having) == ["sql"] * 16
    assert (await world.chat("sql")).status == 404, "its bare name is known below its service's URL alone"


async def test_what_there_is_is_listed(world: World) -> None:
    await served(world, [["sql"]], Adapter("law", "It is for another model."), Adapter("sql"))
    world.gateway.proxy.publish(Table(world.gateway.proxy.table.backends, {"gpt": "apps/demo:sql"}))
    async with world.client.get(f"{world.url}/v1/models") as response:
        listed = {entry["id"]: entry for entry in (await response.json())["data"]}
    assert list(listed) == ["apps/demo", "apps/demo:law", "apps/demo:sql", "gpt"]
    assert [listed[name].get("parent") for name in listed] == [None, "apps/demo", "apps/demo", "apps/demo"]
    assert [listed[name]["ready"] for name in listed] == [True, False, True, True]
    async with world.client.get(f"{world.url}/apps/demo/v1/models/demo:sql") as response:
        assert (await response.json())["id"] == "apps/demo:sql"
    for base in ("/v1", "/apps/demo/v1"):
        url = f"{world.url}{base}/chat/completions"
        async with world.client.post(url, json={"model": "demo:other", "messages": []}) as response:
            error = (await response.json())["error"]
        assert response.status == 404 and error["code"] == "model_not_found" and "law, sql" in error["message"]


async def test_who_asks_for_one_that_is_being_loaded_waits_and_holds_up_nobody(world: World) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, hold_seconds=60.0)
    (runtime,) = await served(world, [[]], Adapter("sql"))
    waiting = asyncio.create_task(world.chat("demo:sql", user="me"))
    async with asyncio.timeout(20):
        while not world.gateway.proxy.rooms.held:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.005)
    assert (await world.chat("demo", user="me")).status == 200
    assert not waiting.done() and models(runtime) == ["demo"]
    loads(world, "sql")
    assert (await waiting).status == 200 and models(runtime) == ["demo", "sql"]


async def test_one_that_wakes_its_service_waits_for_it_too(world: World) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, hold_seconds=60.0)
    woken: list[str] = []
    world.gateway.proxy.rooms.waits = woken.append
    runtime = await world.runtime(answer())
    demo = Backend("apps", "demo", (), IDLE, adapters=(Adapter("sql"),))
    world.publish(demo)
    waiting = asyncio.create_task(world.chat("demo:sql"))
    async with asyncio.timeout(20):
        while not woken:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    replica = Replica("demo-0", runtime.url)
    world.publish(replace(demo, replicas=(replica,)))
    world.publish(replace(demo, replicas=(replace(replica, adapters=frozenset({"sql"})),)))
    assert (await waiting).status == 200 and models(runtime) == ["sql"]


async def refused(response: aiohttp.ClientResponse) -> tuple[int, str, str]:
    error = (await response.json())["error"]
    return response.status, error["code"], error["message"]


async def test_nobody_waits_for_one_that_no_replica_will_have(world: World) -> None:
    await served(world, [[]], Adapter("law"), Adapter("sql", "It was made for acme/other. Take another one."))
    status, code, message = await refused(response := await world.chat("demo:sql"))
    assert (status, code) == (503, "adapter_failed") and "acme/other" in message
    assert response.headers["x-should-retry"] == "false"
    assert (await refused(await world.chat("demo:law")))[:2] == (503, "adapter_not_loaded"), "not in time"
    assert (await world.chat("demo")).status == 200


async def test_one_that_is_removed_is_told_to_those_who_wait(world: World) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, hold_seconds=60.0)
    await served(world, [[]], Adapter("sql"))
    waiting = asyncio.create_task(world.chat("demo:sql"))
    async with asyncio.timeout(20):
        while not world.gateway.proxy.rooms.held:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    world.publish(replace(world.gateway.proxy.table.backends["apps/demo"], adapters=()))
    assert (await refused(await waiting))[:2] == (404, "model_not_found")


async def test_it_is_counted_and_has_its_name_in_the_log(world: World) -> None:
    await served(world, [["sql"]], Adapter("sql"))
    await (await world.chat("demo:sql")).read()
    await (await world.chat("demo")).read()
    async with asyncio.timeout(20):
        while len(world.lines) < 2:  # noqa: ASYNC110 - the line comes a moment after its answer
            await asyncio.sleep(0.005)
    lines: list[dict[str, Any]] = [json.loads(line) for line in world.lines]
    assert [line.get("adapter") for line in lines] == ["sql", None]
    text = await (await world.client.get(f"{world.url}/metrics")).text()
    labels = 'adapter="sql",code="200",service="apps/demo"'
    assert f"llmservice_gateway_adapter_requests_total{{{labels}}} 1.0" in text
    labels = 'adapter="sql",kind="completion",service="apps/demo"'
    assert f"llmservice_gateway_adapter_tokens_total{{{labels}}} 4.0" in text


async def test_a_key_for_a_service_is_one_for_its_adapters() -> None:
    async with AsyncExitStack() as stack:
        door = Door()
        world = World(stack, door)
        await world.open()
        await served(world, [["sql"]], Adapter("sql"))
        mine, other = new_key(), new_key()
        door.publish(Ring({"a": record_of(mine, ["apps/demo"]), "b": record_of(other, ["ml/*"])}))
        for key, status in ((mine, 200), (other, 404)):
            headers = {"Authorization": f"Bearer {key}"}
            body = {"model": "apps/demo:sql", "messages": []}
            async with world.client.post(f"{world.url}/v1/chat/completions", json=body, headers=headers) as response:
                assert response.status == status
