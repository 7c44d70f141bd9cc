from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_operator.control import leader
from llmservice_operator.control.leader import LEASE_SECONDS, Leadership, lead
from llmservice_operator.kube.client import Client
from llmservice_operator.kube.errors import LeadershipLost
from llmservice_operator.kube.kinds import LEASE


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

    async def work(self) -> None:
        self.leads.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def standing(api: FakeApi, name: str) -> AsyncIterator[tuple[Candidate, asyncio.Task[None]]]:
    candidate = Candidate(name)
    async with Client(api.access) as client:
        task = asyncio.create_task(
            lead(client, "operator", "llm", name, candidate.leadership, candidate.work), name=name
        )
        try:
            yield candidate, task
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_one_leads_and_when_it_stops_the_other_follows_at_once(api: FakeApi) -> None:
    async with standing(api, "first") as (first, first_task), standing(api, "second") as (second, _):
        async with asyncio.timeout(5):
            await first.leads.wait()
        await asyncio.sleep(1.2)
        assert not second.leads.is_set()
        assert api.objects[LEASE, "llm", "operator"]["spec"]["holderIdentity"] == "first"
        first_task.cancel()
        await asyncio.wait([first_task])
        async with asyncio.timeout(2):
            await second.leads.wait()


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


async def test_what_the_work_raises_is_raised(api: FakeApi) -> None:
    async def broken() -> None:
        raise RuntimeError("broken")

    async with Client(api.access) as client:
        with pytest.raises(RuntimeError, match="broken"):
            await lead(client, "operator", "llm", "me", Leadership(), broken)
    assert api.objects[LEASE, "llm", "operator"]["spec"]["holderIdentity"] == ""


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
