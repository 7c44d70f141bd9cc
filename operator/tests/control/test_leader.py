from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import pytest
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_kube.errors import LeadershipLost
from llmservice_kube.kinds import LEASE
from llmservice_operator.control import leader
from llmservice_operator.control.leader import LEASE_SECONDS, Leadership, lead

PERIODS = {name: getattr(leader, name) for name in ("LEASE_SECONDS", "RENEW_SECONDS", "RETRY_SECONDS")}


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest periods that the library allows."""
    monkeypatch.setattr(leader, "LEASE_SECONDS", 3)
    monkeypatch.setattr(leader, "RENEW_SECONDS", 2)
    monkeypatch.setattr(leader, "RETRY_SECONDS", 1)


class Candidate:
    def __init__(self, name: str) -> None:
        self.name = name
        self.leadership = Leadership()
        self.leads = asyncio.Event()
        self.asked = threading.Event()

    async def work(self) -> None:
        self.leads.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def standing(api: FakeApi, name: str, pod: str = "") -> AsyncIterator[tuple[Candidate, asyncio.Task[None]]]:
    candidate = Candidate(name)
    leads = lead(
        api.access, "operator", "llm", name, candidate.leadership, candidate.work, candidate.asked.set, pod=pod
    )
    task = asyncio.create_task(leads, name=name)
    try:
        yield candidate, task
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert "election" not in {thread.name for thread in threading.enumerate()}


async def test_one_leads_and_when_it_stops_the_other_follows_at_once(api: FakeApi) -> None:
    async with standing(api, "first") as (first, first_task):
        async with asyncio.timeout(5):
            await first.leads.wait()
        async with standing(api, "second") as (second, _):
            await asyncio.sleep(1.2)
            assert not second.leads.is_set()
            assert api.objects[LEASE, "llm", "operator"]["spec"]["holderIdentity"] == "first"
            first_task.cancel()
            await asyncio.wait([first_task])
            async with asyncio.timeout(2):
                await second.leads.wait()


async def test_a_container_that_begins_anew_in_the_leaders_pod_need_not_wait_for_its_lease(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "LEASE_SECONDS", 3600)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "pod-a_1", "leaseDurationSeconds": 3600, "acquireTime": now, "renewTime": now}
    api.put({"metadata": {"name": "operator", "namespace": "llm"}, "spec": spec}, LEASE)
    for pod in ("pod-b", "pod", ""):
        async with standing(api, f"{pod}_2", pod) as (other, _):
            for _ in range(2):
                assert await asyncio.to_thread(other.asked.wait, 60)
                other.asked.clear()
            assert not other.leads.is_set(), pod
    async with standing(api, "pod-a_2", "pod-a") as (same, _), asyncio.timeout(60):
        await same.leads.wait()


def test_a_standby_leads_well_before_requests_have_waited_for_20_seconds() -> None:
    """The Lease's own seconds, its renewal seen late, and its end seen late: what is left is for the first look."""
    assert PERIODS["LEASE_SECONDS"] + 2 * PERIODS["RETRY_SECONDS"] <= 14
    assert PERIODS["RENEW_SECONDS"] + leader._REQUEST_SECONDS < PERIODS["LEASE_SECONDS"], "it ends before its Lease"
    assert PERIODS["RENEW_SECONDS"] > 1.2 * PERIODS["RETRY_SECONDS"]


async def test_a_leader_that_cannot_renew_gives_up_before_the_lease_ends(api: FakeApi) -> None:
    async with standing(api, "first") as (first, task):
        async with asyncio.timeout(5):
            await first.leads.wait()
        api.fault = lambda method, path: refusal(503)
        async with asyncio.timeout(10):
            with pytest.raises(LeadershipLost):
                await task


async def test_a_standby_survives_a_server_that_is_gone(api: FakeApi) -> None:
    api.fault = lambda method, path: refusal(500)
    async with standing(api, "first") as (first, task):
        await asyncio.sleep(1.5)
        assert not task.done()
        api.fault = lambda method, path: None
        async with asyncio.timeout(10):
            await first.leads.wait()


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"holderIdentity": ""},
        {"holderIdentity": "gone"},
        {"holderIdentity": "gone", "leaseDurationSeconds": 0, "renewTime": None, "acquireTime": None},
        {"holderIdentity": "gone", "leaseDurationSeconds": 1, "renewTime": "2020-01-01T00:00:00.000000Z"},
        {"holderIdentity": "gone", "leaseDurationSeconds": 1, "renewTime": "odd", "acquireTime": "odd"},
        {"holderIdentity": "gone", "renewTime": 7, "acquireTime": {}, "leaseTransitions": "many"},
        {"holderIdentity": ["a"], "leaseDurationSeconds": "long"},
    ],
)
async def test_a_lease_of_any_content_is_taken_over_in_time(api: FakeApi, spec: object) -> None:
    body = {"metadata": {"name": "operator", "namespace": "llm"}}
    api.put(body if spec is None else {**body, "spec": spec}, LEASE)
    async with standing(api, "first") as (first, task):
        leads = asyncio.create_task(first.leads.wait())
        await asyncio.wait([leads, task], timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert first.leads.is_set() and not task.done()
        assert api.objects[LEASE, "llm", "operator"]["spec"]["holderIdentity"] == "first"


async def test_what_the_work_raises_is_raised(api: FakeApi) -> None:
    async def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await lead(api.access, "operator", "llm", "me", Leadership(), broken)
    assert api.objects[LEASE, "llm", "operator"]["spec"]["holderIdentity"] == ""


@contextmanager
def api_of_another_thread() -> Iterator[FakeApi]:
    """It answers while our own loop does not run."""
    begun: queue.Queue[tuple[FakeApi, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        async with fake_api() as api:
            end = asyncio.Event()
            begun.put((api, asyncio.get_running_loop(), end))
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    api, loop, end = begun.get(timeout=10)
    try:
        yield api
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


async def test_a_loop_that_is_kept_busy_costs_no_lease() -> None:
    with api_of_another_thread() as api:
        async with standing(api, "first") as (first, first_task):
            async with asyncio.timeout(5):
                await first.leads.wait()
            before = api.objects[LEASE, "llm", "operator"]["spec"]["renewTime"]
            time.sleep(leader.LEASE_SECONDS + 1.5)  # noqa: ASYNC251 - this is the loop being kept busy
            first.leadership.fence()
            assert api.objects[LEASE, "llm", "operator"]["spec"]["renewTime"] > before
            await asyncio.sleep(0)
            assert not first_task.done()


async def test_a_standby_tells_that_it_asks_also_when_nobody_answers(api: FakeApi) -> None:
    api.fault = lambda method, path: refusal(500)
    async with standing(api, "first") as (first, _):
        for _ in range(2):
            assert await asyncio.to_thread(first.asked.wait, 10)
            first.asked.clear()
        assert not first.leads.is_set()


def test_a_process_that_was_stopped_finds_its_fence_closed() -> None:
    now = 100.0
    leadership = Leadership(clock=lambda: now)
    with pytest.raises(LeadershipLost):
        leadership.fence()
    leadership.renewed(asked_at=now)
    leadership.fence()
    now += LEASE_SECONDS + 0.1
    with pytest.raises(LeadershipLost):
        leadership.fence()
