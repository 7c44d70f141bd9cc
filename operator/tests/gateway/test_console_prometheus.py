"""More than an hour: what Prometheus is asked, what becomes of its answers, and of its faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from gateway_world import World, serve  # type: ignore[import-not-found]

from llmservice_console.history import COLUMNS
from llmservice_gateway.console.prometheus import POINTS, Server, queries, series, step_of
from llmservice_gateway.routing import Backend

DAY = 86_400


class Scripted:
    """A Prometheus that says the same number of everything, or what the test says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.headers: list[str] = []
        self.body: Any = None

    async def answer(self, request: web.Request) -> web.Response:
        given = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
        self.asked.append(given)
        self.headers.append(request.headers.get("Authorization", ""))
        start, end, step = (int(given[name]) for name in ("start", "end", "step"))
        values = [[at, "2.5"] for at in range(start, end + 1, step)]
        return web.json_response(self.body or {"status": "success", "data": {"result": [{"values": values}]}})


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[World, Scripted]]:
    async with AsyncExitStack() as stack:
        world, made = World(stack, console=True), Scripted()
        await world.open()
        world.publish(Backend("apps", "demo"))
        app = web.Application()
        app.router.add_post("/api/v1/query_range", made.answer)
        world.gateway.console.prometheus = Server(await serve(stack, app), {"cluster": "a"})
        yield world, made


async def history(world: World, seconds: int) -> tuple[int, Any]:
    async with world.client.get(f"{world.url}/-/api/services/apps/demo/history?seconds={seconds}") as response:
        return response.status, await response.json()


async def test_a_day_has_the_columns_of_an_hour(scripted: tuple[World, Scripted]) -> None:
    world, prometheus = scripted
    status, told = await history(world, DAY)
    assert status == 200 and set(told["columns"]) == {"at", *COLUMNS}
    assert told["step"] == step_of(DAY)
    assert set(told["columns"]["held"]) == {2.5} and set(told["columns"]["kvUsed"]) == {None}
    assert len(told["columns"]["at"]) <= POINTS + 1
    assert all('service="apps/demo",cluster="a"' in one["query"] for one in prometheus.asked)


async def test_its_token_is_read_each_time(scripted: tuple[World, Scripted], tmp_path: Path) -> None:
    world, prometheus = scripted
    (tmp_path / "token").write_text("first\n")
    world.gateway.console.prometheus = Server(world.gateway.console.prometheus.url, {}, "", str(tmp_path / "token"))
    await history(world, DAY)
    assert set(prometheus.headers) == {"Bearer first"}


@pytest.mark.parametrize("body", [{"status": "error", "error": "too many points"}, {"status": "success"}, [1]])
async def test_what_is_wrong_with_it_is_told(scripted: tuple[World, Scripted], body: Any) -> None:
    world, prometheus = scripted
    prometheus.body = body
    status, told = await history(world, DAY)
    assert (status, told["error"]["code"]) == (503, "prometheus_unavailable")


async def test_without_one_there_is_an_hour(scripted: tuple[World, Scripted]) -> None:
    world, _ = scripted
    world.gateway.console.prometheus = None
    status, told = await history(world, DAY)
    assert (status, told["error"]["param"]) == (400, "seconds")
    assert (await history(world, 3600))[0] == 200


def test_names_are_quoted() -> None:
    assert r'service="a\"b"' in queries('a"b', {}, 60)["held"]


def test_what_is_no_number_is_not_told() -> None:
    told = series({"status": "success", "data": {"result": [{"values": [[1, "NaN"], [2, "3"], [3, "+Inf"]]}]}})
    assert told == {2: 3.0}
    assert series({"status": "success", "data": {"result": []}}) == {}
