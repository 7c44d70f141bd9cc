"""Our own watch into a mirror: what is lost on the way is found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from fake_api import FakeApi, refusal  # type: ignore[import-not-found]

from llmservice_kube import mirror, watching
from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE, Json
from llmservice_kube.mirror import Mirror
from llmservice_kube.watching import watch_into

LABEL = "llmservice.dev/name"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(mirror, "GAP_SECONDS", 0.01)
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.01)


@asynccontextmanager
async def watching_mirror(api: FakeApi, seconds: float = 600.0) -> AsyncIterator[Mirror]:
    kinds = {LLM_SERVICE: ""}
    async with Client(api.access, sleep=lambda seconds: asyncio.sleep(0)) as client:
        found = Mirror(client, kinds, LABEL, changed=lambda keys: None, seconds=seconds)
        tasks = [
            asyncio.create_task(found.run()),
            asyncio.create_task(watch_into(found, client, kinds, changed=lambda key: None)),
        ]
        try:
            yield found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def service(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": "apps"}, "spec": {}}


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not found():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


def names(found: Mirror) -> list[str]:
    return [name for _, name in found.cache.services()]


async def test_it_brings_what_is_there_what_comes_and_what_goes(api: FakeApi) -> None:
    api.put(service("a"))
    async with watching_mirror(api) as found:
        await until(lambda: found.cache.complete and names(found) == ["a"])
        api.put(service("b"))
        await until(lambda: names(found) == ["a", "b"])
        api.remove(LLM_SERVICE, "apps", "a")
        await until(lambda: names(found) == ["b"])


async def test_a_cut_watch_goes_on_where_it_was(api: FakeApi) -> None:
    api.put(service("a"))
    async with watching_mirror(api) as found:
        await until(lambda: found.cache.complete)
        api.put(service("b"))
        await until(lambda: names(found) == ["a", "b"])
        lists = len(api.lists)
        api.remove(LLM_SERVICE, "apps", "a")
        api.hang_up()
        await until(lambda: names(found) == ["b"])
        assert len(api.lists) == lists, "nothing was listed"


async def test_what_went_while_the_history_was_lost_is_found_by_a_list(api: FakeApi) -> None:
    api.put(service("a"))
    api.put(service("b"))
    async with watching_mirror(api) as found:
        await until(lambda: names(found) == ["a", "b"])
        api.mute_watches = True
        api.remove(LLM_SERVICE, "apps", "a")
        api.put(service("c"))
        api.compact()
        api.mute_watches = False
        api.hang_up()
        await until(lambda: names(found) == ["b", "c"])


async def test_a_deletion_that_no_watch_tells_of_is_found_by_the_next_relist(api: FakeApi) -> None:
    api.put(service("a"))
    async with watching_mirror(api, seconds=0.3) as found:
        await until(lambda: names(found) == ["a"])
        api.mute_watches = True
        api.remove(LLM_SERVICE, "apps", "a")
        await until(lambda: names(found) == [])


async def test_an_outage_changes_nothing_of_what_is_known(api: FakeApi) -> None:
    api.put(service("a"))
    async with watching_mirror(api) as found:
        await until(lambda: names(found) == ["a"])
        asked = len(api.requests)
        api.fault = lambda method, path: refusal(503)
        api.hang_up()
        await until(lambda: len(api.requests) > asked + 3)
        assert names(found) == ["a"]
        api.fault = lambda method, path: None
        api.put(service("b"))
        await until(lambda: names(found) == ["a", "b"])


async def test_an_event_that_is_none_costs_only_itself(api: FakeApi) -> None:
    async with watching_mirror(api) as found:
        await until(lambda: found.cache.complete)
        api.stream_error = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "broken"}
        api.put(service("a"))
        await until(lambda: names(found) == ["a"])
