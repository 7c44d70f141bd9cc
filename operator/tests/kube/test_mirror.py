"""The mirror on a server whose lists expire, fail and change while they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fake_api import FakeApi, refusal  # type: ignore[import-not-found]

from llmservice_kube import mirror
from llmservice_kube.cache import Key
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import DEPLOYMENT, LLM_SERVICE, Json
from llmservice_kube.mirror import Mirror

LABEL = "llmservice.dev/name"
NAMES = [f"s{number}" for number in range(7)]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "PAGE", 2)
    monkeypatch.setattr(mirror, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(mirror, "GAP_SECONDS", 0.01)


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[Client]:
    async with Client(api.access, sleep=lambda seconds: asyncio.sleep(0)) as found:
        yield found


def mirror_of(client: Client, **more: object) -> Mirror:
    kinds = {LLM_SERVICE: "", DEPLOYMENT: LABEL}
    return Mirror(client, kinds, LABEL, **{"changed": lambda keys: None, **more})  # type: ignore[arg-type]


def service(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": "apps"}, "spec": {}}


async def test_an_object_that_goes_while_a_list_begins_anew_does_not_stay_as_a_ghost(
    api: FakeApi, client: Client
) -> None:
    for name in NAMES:
        api.put(service(name))
    pages = 0

    def expire(method: str, path: str) -> None:
        nonlocal pages
        pages += path.endswith("/llmservices")
        if pages == 2:  # the first page was taken in: now its first object goes, and the rest can't be read any more
            pages += 1
            api.remove(LLM_SERVICE, "apps", NAMES[0])
            api.compact()

    api.after_read = expire
    found = mirror_of(client)
    await found.relist()
    assert [name for _, name in found.cache.services()] == NAMES[1:]


async def test_what_is_written_while_a_list_is_read_is_not_lost(api: FakeApi, client: Client) -> None:
    for name in NAMES:
        api.put(service(name))
    found = mirror_of(client)
    api.after_read = lambda method, path: [
        found.event(LLM_SERVICE, "MODIFIED", api.put({**service(name), "spec": {"new": True}})) for name in NAMES[:1]
    ]
    await found.relist()
    held = found.cache.get(LLM_SERVICE, "apps", NAMES[0])
    assert held is not None and held["spec"] == {"new": True}


async def test_a_relist_that_fails_is_told_and_tried_again_and_a_gap_asks_for_another(
    api: FakeApi, client: Client
) -> None:
    done: asyncio.Queue[ApiError | None] = asyncio.Queue()
    seen = set[Key]()
    api.put(service("a"))
    broken = True
    api.fault = lambda method, path: refusal(403, "Forbidden") if broken else None
    found = mirror_of(client, changed=seen.update, done=done.put_nowait)
    task = asyncio.create_task(found.run())
    async with asyncio.timeout(10):
        error = await done.get()
        assert error is not None and found.cache.services() == []
        broken = False
        while await done.get() is not None:
            continue
        assert found.cache.complete and seen == {("apps", "a")}
        api.put(service("b"))
        found.gap()
        assert await done.get() is None
        assert seen == {("apps", "a"), ("apps", "b")}
    task.cancel()
    await asyncio.wait([task])


async def test_only_the_namespaces_that_are_asked_for_are_read(api: FakeApi, client: Client) -> None:
    for namespace in ("one", "two", "three"):
        api.put({"metadata": {"name": "a", "namespace": namespace}, "spec": {}})
    found = mirror_of(client, namespaces=("one", "two"))
    await found.relist()
    assert found.cache.complete
    assert found.cache.services() == [("one", "a"), ("two", "a")]


async def test_a_kind_that_may_not_be_listed_is_told_and_holds_up_no_other(api: FakeApi, client: Client) -> None:
    api.fault = lambda method, path: refusal(403, "Forbidden") if path.endswith("/llmservices") else None
    api.put({"metadata": {"name": "d", "namespace": "apps", "labels": {LABEL: "a"}}, "spec": {}}, DEPLOYMENT)
    found = mirror_of(client)
    with pytest.raises(ApiError, match="403"):
        await found.relist()
    assert found.cache.get(DEPLOYMENT, "apps", "d") is not None
    assert not found.cache.complete
