from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fake_api import FakeApi, fake_api  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import LEASE, Json
from llmservice_operator.control.health import Health
from llmservice_operator.control.rivals import (
    GONE_SECONDS,
    LEASE_NAME,
    LOOK_SECONDS,
    RELEASE,
    WATCHED,
    Rival,
    Rivals,
    same_namespace,
)

MINE, THEIRS = "llm-b", "llm-a"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def service(name: str = "qwen", claim: str = "", namespace: str = "apps") -> Json:
    status = {"installation": claim} if claim else {}
    return {"kind": "LLMService", "metadata": {"name": name, "namespace": namespace}, "status": status}


def test_a_lease_that_changes_lives_and_one_that_does_not_is_gone_by_our_clock() -> None:
    rival = Rival(0)

    def state() -> tuple[bool, bool]:
        return rival.lives, rival.gone

    assert not rival.look("a", (), 1) and state() == (False, False)
    assert rival.look("b", (), 11) and state() == (True, False)
    for at in range(21, 71, 10):
        assert not rival.look("b", (), at)
    assert rival.look("b", (), 11 + GONE_SECONDS) and state() == (False, True)
    assert rival.look("c", (), 81) and state() == (True, False)


def test_a_lease_that_is_not_held_or_not_there_is_no_sign_of_life() -> None:
    rival = Rival(0)
    for at in range(0, int(GONE_SECONDS), 10):
        rival.look("a" if at == 0 else None, (), at)
        assert not rival.gone
    rival.look(None, (), GONE_SECONDS)
    assert rival.gone


def test_time_in_which_nobody_could_look_does_not_count() -> None:
    rival = Rival(0)
    rival.look("a", (), 1)
    rival.look("a", (), 1000)
    assert not rival.gone


class World:
    def __init__(self, api: FakeApi, client: Client) -> None:
        self.api, self.clock, self.changes = api, Clock(), 0
        self.health = Health(1e9)
        self.rivals = Rivals(client, MINE, self.health, self._changed, self.clock)
        self.renewals = 0

    def _changed(self) -> None:
        self.changes += 1

    def renew(self, holder: str = "pod", watched: str = "") -> None:
        self.renewals += 1
        metadata = {"name": LEASE_NAME, "namespace": THEIRS, "annotations": {WATCHED: watched}}
        self.api.put({"metadata": metadata, "spec": {"holderIdentity": holder, "renewTime": self.renewals}}, LEASE)

    async def look(self) -> None:
        self.clock.now += LOOK_SECONDS
        await self.rivals.look()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with fake_api() as api, Client(api.access) as client:
        yield World(api, client)


async def test_a_service_of_a_living_installation_is_left_and_it_is_said_once_it_is_sure(world: World) -> None:
    theirs, key = service(claim=THEIRS), ("apps", "qwen")
    world.renew()
    assert world.rivals.holder(theirs) == THEIRS
    await world.look()
    assert world.health.ready and not world.rivals.to_tell(key, THEIRS)
    world.renew()
    await world.look()
    assert world.changes == 1 and world.rivals.left() == {THEIRS: 1}
    assert world.rivals.holder(theirs) == THEIRS
    assert [world.rivals.to_tell(key, THEIRS) for _ in range(2)] == [True, False]
    said = world.health.problems["installation"]
    assert "the operator in llm-a looks after services in apps" in said and "watchNamespaces" in said


async def test_services_of_a_dead_installation_are_free_and_it_is_solved(world: World) -> None:
    for holder in ("pod", "pod", ""):  # it is told to stop in the end, and gives its Lease back
        world.renew(holder)
        assert world.rivals.holder(service(claim=THEIRS)) == THEIRS
        await world.look()
    assert "installation" in world.health.problems
    for _ in range(int(GONE_SECONDS / LOOK_SECONDS)):
        await world.look()
    assert world.rivals.holder(service(claim=THEIRS)) is None
    assert world.health.problems == {} and world.changes == 2
    world.rivals.holder(service(claim=MINE))
    await world.look()
    asked = len(world.api.requests)
    await world.look()
    assert len(world.api.requests) == asked  # nobody is left to look at


async def test_a_new_service_is_for_whoever_has_services_in_its_namespace(world: World) -> None:
    world.renew()
    new = service("new")
    assert world.rivals.holder(new) is None
    world.rivals.learn(lambda: [service(claim=THEIRS)])
    assert world.rivals.holder(new) == THEIRS
    assert world.rivals.holder(service("new", namespace="elsewhere")) is None
    world.rivals.forget(("apps", "qwen"))
    assert world.rivals.holder(new) is None


async def test_of_two_that_both_have_services_in_a_namespace_one_takes_the_next(world: World) -> None:
    async with Client(world.api.access) as client:
        other = Rivals(client, THEIRS, Health(1e9), lambda: None, world.clock)
        for one in (world.rivals, other):
            one.learn(lambda: [service("a", THEIRS), service("b", MINE)])
        assert [world.rivals.holder(service("new")), other.holder(service("new"))] == [THEIRS, None]


async def test_claims_count_only_where_their_installation_watches(world: World) -> None:
    theirs = service(claim=THEIRS)
    for watched in ("", "apps,more", "more"):
        world.renew(watched=watched)
        assert world.rivals.holder(theirs) == THEIRS
        await world.look()
    assert world.rivals.holder(theirs) is None
    assert world.rivals.holder(service("new")) is None
    assert world.health.ready


async def test_without_others_nothing_is_asked(world: World) -> None:
    world.rivals.learn(lambda: [service(claim=MINE), service("new")])
    await world.look()
    assert world.api.requests == []


def test_a_release_that_only_stands_by_behind_another_one_says_so() -> None:
    lease: Json = {"metadata": {"annotations": {RELEASE: "first"}}, "spec": {"holderIdentity": "pod"}}
    said = same_namespace(lease, "second")
    assert said is not None and said.startswith("the release first leads in this namespace, and second only stands by")
    assert same_namespace(lease, "first") is None
    assert same_namespace({**lease, "spec": {"holderIdentity": ""}}, "second") is None
    assert same_namespace({"metadata": {}, "spec": {"holderIdentity": "pod"}}, "second") is None
