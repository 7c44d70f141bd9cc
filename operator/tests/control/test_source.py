"""kopf's known traps, one test each."""

from __future__ import annotations

import asyncio
import getpass
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_kube.answers import MARK
from llmservice_kube.kinds import DEPLOYMENT, LLM_SERVICE, Json, Kind
from llmservice_operator.control import source

LABELS = "app.kubernetes.io/managed-by=llmservice"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LONGEST_PAUSE", 0.05)


class Heard:
    """What came out of the source."""

    source: source.EventSource
    trip_over = ""

    def __init__(self) -> None:
        self.events: list[tuple[str, str | None, str]] = []
        self.objects: dict[str, Json] = {}
        self.gaps = 0
        self._news = asyncio.Event()

    def sink(self, kind: Kind, event: str | None, obj: Json) -> None:
        if obj["metadata"]["name"] == self.trip_over:
            raise KeyError("made")
        self.objects[obj["metadata"]["name"]] = obj
        self.events.append((kind.kind, event, obj["metadata"]["name"]))
        self._news.set()

    def gap(self) -> None:
        self.gaps += 1
        self._news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def event(self, kind: str, event: str | None, name: str) -> None:
        await self.until(lambda: (kind, event, name) in self.events)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


@asynccontextmanager
async def watching(api: FakeApi, *namespaces: str) -> AsyncIterator[Heard]:
    heard = Heard()
    selectors = {LLM_SERVICE: "", DEPLOYMENT: LABELS}
    heard.source = source.EventSource(api.access, selectors, heard.sink, namespaces, gap=heard.gap)
    task = asyncio.create_task(heard.source.run())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        assert "kopf" not in {thread.name for thread in threading.enumerate()}


def service(name: str, namespace: str = "apps") -> Json:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {}}


async def test_it_hears_what_is_there_what_comes_and_what_goes(api: FakeApi) -> None:
    api.put(service("old"))
    async with watching(api) as heard:
        await heard.event("LLMService", None, "old")
        api.put(service("new"))
        await heard.event("LLMService", "ADDED", "new")
        api.remove(LLM_SERVICE, "apps", "old")
        await heard.event("LLMService", "DELETED", "old")


async def test_it_writes_nothing(api: FakeApi) -> None:
    api.put(service("a"))
    async with watching(api) as heard:
        await heard.event("LLMService", None, "a")
        api.put({**service("a"), "spec": {"changed": True}})
        await heard.event("LLMService", "MODIFIED", "a")
        api.remove(LLM_SERVICE, "apps", "a")
        await heard.event("LLMService", "DELETED", "a")
    assert {method for method, _ in api.requests} == {"GET"}


async def test_only_labelled_objects_of_owned_kinds_come(api: FakeApi) -> None:
    label, _, value = LABELS.partition("=")
    api.put(service("foreign"), DEPLOYMENT)
    mine = service("mine")
    mine["metadata"]["labels"] = {label: value}
    api.put(mine, DEPLOYMENT)
    async with watching(api) as heard:
        await heard.event("Deployment", None, "mine")
    assert ("Deployment", None, "foreign") not in heard.events


async def test_a_list_of_namespaces_is_all_it_looks_at(api: FakeApi) -> None:
    api.put(service("a", "one"))
    api.put(service("b", "two"))
    api.put(service("c", "three"))
    async with watching(api, "one", "two") as heard:
        await heard.event("LLMService", None, "a")
        await heard.event("LLMService", None, "b")
    assert all(name != "c" for _, _, name in heard.events)
    assert not any(path.endswith("v1alpha1/llmservices") for _, path in api.requests)


async def test_410_means_to_list_again(api: FakeApi) -> None:
    async with watching(api) as heard:
        api.put(service("a"))
        await heard.until(lambda: len(heard.events) > 0)
        api.mute_watches = True
        api.put(service("b"))
        api.compact()
        api.mute_watches = False
        api.hang_up()
        await heard.event("LLMService", None, "b")
    assert heard.source.restarts == 0


async def test_a_list_tells_that_it_was_made_even_when_nothing_is_left(api: FakeApi) -> None:
    """Else what went away in a gap would stay until the next relist: there is no event, not even of the list."""
    api.put(service("last"))
    async with watching(api) as heard:
        await heard.event("LLMService", None, "last")
        await heard.until(lambda: heard.gaps == 2)  # each of the two kinds was listed once
        api.mute_watches = True
        api.remove(LLM_SERVICE, "apps", "last")
        api.compact()
        api.mute_watches = False
        api.hang_up()
        await heard.until(lambda: heard.gaps == 4)
        assert heard.events == [("LLMService", None, "last")]
        api.put(service("new"))
        await heard.event("LLMService", "ADDED", "new")
        api.hang_up()
        api.put(service("newer"))
        await heard.event("LLMService", "ADDED", "newer")
        assert heard.gaps == 4, "a watch that goes on where it was has missed nothing"


async def test_an_event_that_its_reader_trips_over_takes_no_other_with_it(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "GATHER_SECONDS", 0.2)  # both come in one batch
    async with watching(api) as heard:
        await heard.until(lambda: heard.gaps == 2)
        heard.trip_over = "bad"
        api.put(service("bad"))
        api.put(service("good"))
        await heard.event("LLMService", "ADDED", "good")


async def test_a_watch_that_drops_goes_on_where_it_was(api: FakeApi) -> None:
    async with watching(api) as heard:
        for index in range(3):
            api.put(service(f"s{index}"))
            await heard.until(lambda: any(name == f"s{index}" for _, _, name in heard.events))  # noqa: B023
            api.hang_up()


async def test_an_error_in_a_stream_ends_kopf_but_not_us(api: FakeApi) -> None:
    api.put(service("a"))
    async with watching(api) as heard:
        await heard.event("LLMService", None, "a")
        bystander = asyncio.create_task(asyncio.Event().wait())
        api.stream_error = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "made"}
        api.put(service("b"))
        await heard.until(lambda: heard.source.restarts == 1)
        api.put(service("c"))
        await heard.until(lambda: any(name == "c" for _, _, name in heard.events))
        assert not bystander.done()
        bystander.cancel()


@pytest.mark.parametrize("status", [403, 500, 503])
async def test_it_never_gives_up_on_a_server_that_refuses(api: FakeApi, status: int) -> None:
    refused = 0

    def refuse(method: str, path: str) -> object:
        nonlocal refused
        if path.endswith("/llmservices"):
            refused += 1
            if refused <= 12:  # kopf's own patience is 9
                return refusal(status)
        return None

    api.fault = refuse
    api.put(service("a"))
    async with watching(api) as heard:
        await heard.event("LLMService", None, "a")
    assert heard.source.restarts == 0


async def test_it_stops_when_it_is_told_to_even_while_it_waits(api: FakeApi) -> None:
    third = asyncio.Event()

    def refuse(method: str, path: str) -> object:
        if len(api.requests) >= 3:
            third.set()
        return refusal(503) if path.startswith("/apis") else None

    api.fault = refuse
    async with watching(api):
        async with asyncio.timeout(5):
            await third.wait()


async def test_it_runs_as_a_user_without_a_name(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in our image: the user id 65532 is in no /etc/passwd."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", unknown)
    api.put(service("old"))
    async with watching(api) as heard:
        await heard.event("LLMService", None, "old")


@pytest.mark.parametrize("spec", ["half a surrogate pair", "nested deep"])
async def test_an_object_that_no_parser_reads_costs_neither_the_watch_nor_the_list(api: FakeApi, spec: str) -> None:
    deep: Json = {}
    for _ in range(300):  # more than is read, and less than the server in this process can't write
        deep = {"a": [deep]}
    odd = {"x": "\ud800" if spec == "half a surrogate pair" else deep}
    api.put(service("first"))
    async with watching(api) as heard:
        await heard.event("LLMService", None, "first")
        await heard.until(lambda: bool(api.watchers))
        api.put({**service("odd"), "spec": odd})
        await heard.event("LLMService", "ADDED", "odd")
        assert MARK in heard.objects["odd"]
        api.put(service("second"))
        await heard.event("LLMService", "ADDED", "second")
        api.version += 1
        api.compact()
        api.hang_up()
        await heard.event("LLMService", None, "odd")
        await heard.event("LLMService", None, "second")
        assert MARK in heard.objects["odd"] and MARK not in heard.objects["second"]
        assert heard.source.restarts == 0
