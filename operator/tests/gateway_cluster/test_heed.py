"""A request that ends replicas costs two, however many gateways it is sent through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from cluster_objects import endpoint, endpoint_slice, llmservice  # type: ignore[import-not-found]
from cluster_world import Here, gateway, until  # type: ignore[import-not-found]
from fake_api import FakeApi, fake_api  # type: ignore[import-not-found]
from gateway_world import answer, die  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api import deaths_lease
from llmservice_api.deaths_lease import DIGEST_BYTES, MOST_BYTES, MOST_DEATHS, MOST_REQUESTS
from llmservice_gateway.cluster import heed
from llmservice_gateway.suspects import DEATHS, SAME_SECONDS, SECONDS, Suspects
from llmservice_kube.kinds import ENDPOINT_SLICE

ONE, TWO = bytes(DIGEST_BYTES), bytes([1] * DIGEST_BYTES)
POISON = [{"role": "user", "content": "poison"}]


class Two:
    """Two gateways before five replicas that end with POISON, and are there again at once."""

    def __init__(self, api: FakeApi, stack: AsyncExitStack) -> None:
        self.api, self.stack = api, stack
        self.killed = 0

    async def open(self) -> None:
        self.api.put(llmservice())
        self.gateways: list[Here] = [await self.stack.enter_async_context(gateway(self.api, name)) for name in "ab"]
        for number in range(5):
            runtime = await self.gateways[0].world.runtime(self.picky)
            parts, pod = urlsplit(runtime.url), f"p{number}"
            made = endpoint_slice(endpoint(pod, parts.hostname), name=f"demo-{pod}", port=parts.port)
            self.api.put(made, ENDPOINT_SLICE)
        for here in self.gateways:
            await until(lambda here=here: len(here.replicas()) == 5)
            await until(lambda here=here: here.cluster._peers.live(asyncio.get_running_loop().time()) == 2)

    async def picky(self, request: web.Request) -> web.StreamResponse:
        if b"poison" not in await request.read():
            response: web.StreamResponse = await answer()(request)
            return response
        self.killed += 1
        await die(request)
        raise AssertionError

    async def ask(self, number: int) -> tuple[int, str]:
        response = await self.gateways[number].world.chat("apps/demo", messages=POISON)
        return response.status, (await response.json())["error"]["code"]


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


@pytest.fixture
async def two(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    """Whoever waits does so for as long as it takes here."""
    monkeypatch.setattr(heed, "TOLD_SECONDS", 60.0)
    async with AsyncExitStack() as stack:
        made = Two(api, stack)
        await made.open()
        yield made


async def test_whom_one_gateway_has_told_another_does_not_try(two: Two) -> None:
    assert await two.ask(0) == (422, "request_quarantined")
    assert two.killed == DEATHS
    heard = two.gateways[1].world.gateway.proxy.suspects._heard
    await until(lambda: any(len(replicas) == 2 for told in heard.values() for replicas in told.values()))
    assert await two.ask(1) == (422, "request_quarantined")
    assert two.killed == DEATHS
    assert (await two.gateways[1].world.chat("apps/demo")).status == 200


async def test_the_same_request_through_both_at_once_costs_two(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heed, "SETTLED_SECONDS", 60.0)  # until the other one's death is here, however busy the machine
    both = asyncio.Barrier(2)

    async def together(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        two.killed += b"poison" in body
        await asyncio.wait_for(both.wait(), 60)
        await die(request)
        raise AssertionError

    for number in (5, 6):
        runtime = await two.gateways[0].world.runtime(together)
        parts, pod = urlsplit(runtime.url), f"p{number}"
        two.api.put(endpoint_slice(endpoint(pod, parts.hostname), name=f"demo-{pod}", port=parts.port), ENDPOINT_SLICE)
    for number in range(5):
        two.api.remove(ENDPOINT_SLICE, "apps", f"demo-p{number}")
    for here in two.gateways:
        await until(lambda here=here: here.replicas() == ["p5", "p6"])
    # Each gateway has one of the two replicas for itself: the other one is said to be out of reach.
    for here, other in zip(two.gateways, ("p5", "p6"), strict=True):
        for _ in range(2):
            here.world.gateway.proxy.rooms.reach.failed(other, asyncio.get_running_loop().time() + 3600)
    answers = await asyncio.gather(two.ask(0), two.ask(1))
    assert set(answers) == {(422, "request_quarantined")} and two.killed == 2


async def test_without_others_nobody_waits(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.put(llmservice())
    async with gateway(api) as here:
        suspects = here.world.gateway.proxy.suspects
        suspects.died(ONE, asyncio.get_running_loop().time(), "p0")
        monkeypatch.setattr(here.cluster.keeper, "told", None)
        await here.world.gateway.proxy.heed(ONE)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=63)
DIGESTS = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)


@given(st.dictionaries(DIGESTS, st.lists(NAMES, min_size=1, max_size=MOST_DEATHS), max_size=20))
def test_deaths_are_told_as_they_are(deaths: dict[bytes, list[str]]) -> None:
    assert {digest: list(told) for digest, told in deaths_lease.decode(deaths_lease.encode(deaths)).items()} == deaths


def test_the_latest_are_told_where_not_all_have_room() -> None:
    many = {number.to_bytes(DIGEST_BYTES, "big"): ["x" * 60] * MOST_DEATHS for number in range(2 * MOST_REQUESTS)}
    text = deaths_lease.encode(many)
    told = deaths_lease.decode(text)
    assert len(text) <= MOST_BYTES and list(told) == list(many)[-len(told) :] and len(told) > 100


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"00": ["a"]}', '{"' + "0" * 32 + '": []}', '{"' + "0" * 32 + '": [1]}', "[" * 10_000,
     '{"' + "0" * 32 + '": ["a", "b", "c"]}', '{"' + "0" * 32 + '": ""}', '{"' + "ü" * 16 + '": ["a"]}',
     '{"' + "g" * 32 + '": ["a"]}', " " * (MOST_BYTES + 1)],
)  # fmt: skip
def test_garbage_is_not_believed(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        deaths_lease.decode(text)


def test_two_gateways_that_saw_one_death_count_one() -> None:
    known = Suspects()
    known.died(ONE, 100.0, "p0")
    known.heard("b", {ONE: ["p0"], TWO: ["p0"]}, 100.0 + SAME_SECONDS / 2)
    assert (known.deaths(ONE, 110.0), known.deaths(TWO, 110.0)) == (1, 1)
    known.heard("c", {ONE: ["p1"]}, 111.0)
    assert known.deaths(ONE, 111.0) == 2 and known.latest(ONE, 111.0) == (111.0, False)
    known.heard("b", {ONE: ["p0", "p0"]}, 150.0)
    assert (known.deaths(ONE, 150.0), known.deaths(TWO, 150.0)) == (3, 0)
    assert known.to_tell(150.0) == {ONE: ("p0",)}


def test_what_others_told_is_forgotten_as_well() -> None:
    known = Suspects()
    known.heard("b", {ONE: ["p0"]}, 0.0)
    known.heard("b", {ONE: ["p0"]}, SECONDS / 2)  # told again, and no news
    assert known.deaths(ONE, SECONDS - 1) == 1 and known.deaths(ONE, SECONDS) == 0
    known.forget_old(SECONDS)
    assert known.none
    for number in range(1000):
        known.heard(f"gateway-{number}", {ONE: ["p0"]}, 0.0)
    assert len(known._heard) < 100
