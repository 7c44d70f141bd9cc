"""Whose key may launch and remove models by requests: one that says so, among the services that it may use."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from gateway_world import World  # type: ignore[import-not-found]

from llmservice_api.gateway_keys import decoded, encoded, new_key, record_of
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.launching.launcher import Begun, Download, May
from llmservice_gateway.launching.wish import Leave, Wish
from llmservice_gateway.routing import Backend, Table, Unready
from llmservice_runtime.wire.errors import ApiError

KEYS = {name: new_key() for name in ("plain", "launcher", "everything", "twice")}
RECORDS = {
    "plain": record_of(KEYS["plain"], ["apps/*"]),
    "launcher": record_of(KEYS["launcher"], ["apps/team-*"], launch=True),
    "everything": record_of(KEYS["everything"], launch=True),
    "twice": record_of(KEYS["twice"], requests_per_minute=2, launch=True),
}


class Launched:
    """A launcher that serves everything at once."""

    def __init__(self, world: World) -> None:
        self.leave = Leave(frozenset(("hf",)), ("closed", "apps"))
        self._world = world
        self.wishes: list[Wish] = []

    async def launch(self, wish: Wish, may: May) -> Begun:
        self.wishes.append(wish)
        made = Backend(wish.namespace, wish.called, unready=Unready("Idle", "It is woken."))
        self._world.publish(*self._world.gateway.proxy.table.backends.values(), made)
        return Begun(made.full_name, "made")

    async def give_up(self, begun: Begun) -> None:
        await self.remove(begun.service, files=False)

    def download(self, service: str) -> Download | None:
        return None

    def failure(self, service: str) -> ApiError | None:
        return None

    def launched(self, service: str) -> bool:
        return True

    async def remove(self, service: str, *, files: bool) -> None:
        table = self._world.gateway.proxy.table
        self._world.gateway.proxy.publish(Table({n: b for n, b in table.backends.items() if n != service}))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        door = Door()
        door.publish(Ring(RECORDS))
        world = World(stack, door)
        await world.open()
        world.gateway.launcher = Launched(world)
        yield world


async def sent(world: World, key: str, method: str, path: str, **body: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {KEYS[key]}"} if key else {}
    async with world.client.request(method, world.url + path, json=body, headers=headers) as response:
        return response.status, await response.json()


def test_a_record_without_the_right_is_as_releases_before_wrote_it() -> None:
    assert b"launch" not in __import__("base64").b64decode(encoded(RECORDS["plain"]))
    assert decoded("launcher", encoded(RECORDS["launcher"])).launch


async def test_a_key_launches_only_with_the_right_and_what_it_may_use(world: World) -> None:
    for key, name, status in (
        ("", "apps.team-a", 401),
        ("plain", "apps.team-a", 403),
        ("launcher", "apps.other", 403),
        ("launcher", "closed.team-a", 403),
        ("launcher", "apps.team-a", 200),
        ("everything", "closed.x", 200),
    ):
        told = await sent(world, key, "POST", "/v1/models", model_name="acme/x", model_uid=name)
        assert told[0] == status, (key, name, told)
    status, told = await sent(world, "plain", "POST", "/v1/models", model_name="acme/x")
    assert status == 403 and "--launch" in told["detail"]
    assert (await sent(world, "plain", "POST", "/api/pull", model="acme/x"))[0] == 403


async def test_these_requests_count_for_their_key_and_for_no_service_that_there_is_not(world: World) -> None:
    told = await sent(world, "everything", "POST", "/v1/models", model_name="acme/x", model_uid="apps.team-a")
    assert told[0] == 200
    assert (await sent(world, "launcher", "POST", "/v1/models", model_name="acme/x", model_uid="apps.made-up"))[
        0
    ] == 403
    async with world.client.get(f"{world.url}/metrics") as response:
        counted = await response.text()
    assert 'service="apps/team-a"' in counted and "made-up" not in counted
    used = 0
    while (await sent(world, "twice", "POST", "/api/pull", model="acme/x", stream=False))[0] != 429:
        used += 1
    assert used == 2


async def test_a_launch_without_a_namespace_goes_where_its_key_may(world: World) -> None:
    told = await sent(world, "launcher", "POST", "/v1/models", model_name="acme/x", model_uid="team-b")
    assert told == (200, {"model_uid": "apps.team-b"})
    assert (await sent(world, "everything", "POST", "/v1/models", model_name="acme/x"))[1] == {"model_uid": "closed.x"}


async def test_a_key_removes_only_with_the_right_and_what_it_may_use(world: World) -> None:
    world.publish(Backend("apps", "team-a"), Backend("apps", "demo"))
    for path, body in (("/v1/models/apps.team-a", {}), ("/api/delete", {"model": "apps/team-a"})):
        assert (await sent(world, "plain", "DELETE", path, **body))[0] == 403
    assert (await sent(world, "plain", "POST", "/v1/models/apps.team-a/cancel"))[0] == 403
    assert (await sent(world, "launcher", "DELETE", "/v1/models/apps.demo"))[0] == 404
    assert (await sent(world, "launcher", "DELETE", "/v1/models/apps.team-a"))[0] == 200
    assert list(world.gateway.proxy.table.backends) == ["apps/demo"]


async def test_a_service_that_is_called_progress_is_listed_as_it_is(world: World) -> None:
    world.publish(Backend("apps", "progress"), Backend("apps", "demo", unready=Unready("Stopped", "No.", final=True)))
    assert (await sent(world, "plain", "GET", "/v1/models/apps/progress"))[1]["id"] == "apps/progress"
    status, told = await sent(world, "plain", "GET", "/v1/models/apps.demo/progress")
    assert status == 422 and "No." in told["detail"]
    assert (await sent(world, "everything", "POST", "/v1/models/apps.demo/replicas"))[0] == 501


@pytest.mark.parametrize(("seconds", "status"), [(5, 200), (60, 422)])
async def test_a_name_that_another_object_has_may_be_free_soon(world: World, seconds: int, status: int) -> None:
    """Children of a service that was removed a moment ago still go; the one that takes its place is told to wait."""
    why = Unready("NameConflict", "A Deployment is there.", final=True, held=False, since=time.time() - seconds)
    world.publish(Backend("apps", "demo", unready=why))
    found, told = await sent(world, "plain", "GET", "/v1/models/apps.demo/progress")
    assert found == status
    if status == 200:
        assert told == {"progress": 0.0, "reason": "NameConflict", "message": "A Deployment is there."}
    else:
        assert "A Deployment is there." in told["detail"]
