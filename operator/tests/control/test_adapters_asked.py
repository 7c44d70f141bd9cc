"""Who is asked about adapters, how often, and what becomes of what they say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from llmservice_api.labels import COMPONENT, REVISION, RUNTIME
from llmservice_kube.cache import Key
from llmservice_operator.control import adapters as module
from llmservice_operator.control.adapters import SELDOM_SECONDS, SOON_SECONDS, Adapters

Json = dict[str, Any]
KEY: Key = ("apps", "demo")
LOADED = {"name": "sql", "uri": "hf://a/sql", "revision": "c1", "state": "Loaded", "reason": "", "message": ""}


def pod(uid: str, ready: bool = True, volume: str = "llmservice-adapters", ip: str = "10.0.0.1") -> Json:
    return {
        "kind": "Pod",
        "metadata": {"uid": uid, "name": uid, "labels": {COMPONENT: RUNTIME, REVISION: "r"}},
        "spec": {"volumes": [{"name": volume}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def config_map(text: str) -> Json:
    return {"kind": "ConfigMap", "metadata": {"name": "demo-adapters"}, "data": {"adapters.json": text}}


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.says: Any = {"adapters": [LOADED]}
        self.changed: list[Key] = []
        self.adapters = Adapters(self.changed.append, lambda: self.now, self.ask)

    async def ask(self, url: str) -> Json:
        self.asked.append(url)
        if isinstance(self.says, Exception):
            raise self.says
        found: Json = self.says
        return found

    async def wait(self, seconds: float) -> int:
        """Let so much time pass; how many were asked."""
        before = len(self.asked)
        self.now += seconds
        for _ in range(20):
            await asyncio.sleep(0.001)
        return len(self.asked) - before


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    yield


@contextlib.asynccontextmanager
async def running(world: World) -> Any:
    task = asyncio.create_task(world.adapters.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_ready_replicas_that_read_the_file_are_asked_and_no_others(quick: None) -> None:
    world = World()
    children = [pod("a"), pod("b", ready=False), pod("c", volume="settings", ip="10.0.0.3"), config_map("x")]
    world.adapters.look(KEY, children)
    async with running(world):
        await world.wait(0.0)
        assert world.asked == ["http://10.0.0.1:8001/status"] and world.changed == [KEY]
        (told,) = world.adapters.of(KEY)["a"]
        assert (told.name, told.revision, told.state) == ("sql", "c1", "Loaded")
        assert await world.wait(SOON_SECONDS) == 1 and world.changed == [KEY], "it says the same"
        world.adapters.look(KEY, [])
        assert await world.wait(1000) == 0 and world.adapters.of(KEY) == {}


async def test_who_has_settled_is_asked_seldom_until_there_is_another_file(quick: None) -> None:
    world = World()
    world.adapters.look(KEY, [pod("a"), config_map("x")])
    async with running(world):
        await world.wait(0.0)
        await world.wait(200)
        assert await world.wait(SELDOM_SECONDS - 1) == 0 and await world.wait(2) == 1
        world.adapters.look(KEY, [pod("a"), config_map("other")])
        assert await world.wait(1) == 1
        world.says = {"adapters": [{**LOADED, "state": "Fetching"}]}
        assert await world.wait(SOON_SECONDS) == 1 and len(world.changed) == 2
        assert world.adapters.of(KEY)["a"][0].state == "Fetching"


@pytest.mark.parametrize("says", [OSError("away"), {"adapters": 3}, {"adapters": [{"name": 1}]}])
async def test_who_does_not_say_is_asked_again_and_what_it_said_counts(says: Any, quick: None) -> None:
    world = World()
    world.adapters.look(KEY, [pod("a"), config_map("x")])
    async with running(world):
        await world.wait(0.0)
        world.says = says
        await world.wait(500)
        assert await world.wait(SOON_SECONDS) == 1 and world.adapters.of(KEY)["a"]
        world.adapters.forget(KEY)
        assert world.adapters.of(KEY) == {} and await world.wait(1000) == 0


async def test_who_was_only_asked_in_vain_is_told_from_who_was_not_asked_yet(quick: None) -> None:
    world = World()
    world.says = OSError("away")
    world.adapters.look(KEY, [pod("a"), config_map("x")])
    assert world.adapters.of(KEY) == {}
    async with running(world):
        await world.wait(0.0)
        assert world.adapters.of(KEY) == {"a": ()} and world.changed == [KEY]
        assert await world.wait(SOON_SECONDS) == 1 and world.changed == [KEY], "that is no news"
