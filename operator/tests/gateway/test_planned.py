"""How long an answer may take to begin, by what its replica measured."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from gateway_world import World, stall, stream  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway import planned
from llmservice_gateway.naming import Asked
from llmservice_gateway.places import Capacity, Size, Speed
from llmservice_gateway.planned import LEAST_SECONDS, MOST_SECONDS, UNMEASURED_SECONDS, Given, answer_seconds
from llmservice_gateway.routing import Backend, Replica
from llmservice_gateway.waiting import AnswerTimeoutError, Patience

GPU, LAPTOP = Speed(12_000.0, 1_800.0), Speed(30.0, 6.0)
PLACES = Capacity(sequences=16, kv_tokens=32_768)
counts = st.integers(0, 200_000)
speeds = st.floats(0.01, 1e6)


def request(prompt: int, answer: int = 256, beside: Size = Size(), **asked: Any) -> Given:  # noqa: B008
    fields = {"streams": True, "most_tokens": answer, **asked}
    return Given(Asked(**fields), Size(1, prompt + answer), prompt, beside)


def test_a_short_prompt_on_a_fast_machine_has_the_least() -> None:
    assert answer_seconds(request(500), GPU, PLACES, 8192) == LEAST_SECONDS


def test_a_long_prompt_on_a_slow_machine_has_what_it_takes_and_much_more() -> None:
    alone = 8000 / 30
    bound = answer_seconds(request(8000), LAPTOP, PLACES, 8192)
    assert 20 * alone < bound < MOST_SECONDS
    assert answer_seconds(request(4000), LAPTOP, PLACES, 8192) < bound


def test_a_whole_answer_has_the_time_for_all_of_it() -> None:
    begins = answer_seconds(request(2000), LAPTOP, PLACES, 8192)
    ends = answer_seconds(request(2000, 400, streams=False), LAPTOP, PLACES, 8192)
    assert ends - begins == pytest.approx(20 * 400 / (6 / 16))
    assert answer_seconds(request(2000, 0, streams=False), GPU, PLACES, 8192) > 20 * 8192 / (1800 / 16) - 1


def test_who_may_have_to_wait_in_the_replica_has_the_time_of_the_longest_answer_before_it() -> None:
    at_once = answer_seconds(request(100), GPU, PLACES, 8192)
    longest = 20 * 8192 / (1800 / 16)
    for beside in (Size(16, 4096), Size(4, 32_700)):
        assert answer_seconds(request(100, beside=beside), GPU, PLACES, 8192) > longest > at_once
    assert answer_seconds(request(100), GPU, PLACES, 8192, waiting=1) > longest


def test_what_generates_nothing_waits_for_no_answer() -> None:
    embedding = Given(Asked(sequences=0), Size(), 5000, Size(16, 40_000))
    assert answer_seconds(embedding, GPU, PLACES, 8192, waiting=9) == LEAST_SECONDS


@pytest.mark.parametrize(
    ("speed", "capacity", "context"),
    [(Speed(), PLACES, 8192), (Speed(1.0), PLACES, 8192), (GPU, Capacity(), 8192), (GPU, PLACES, 0)],
)
def test_what_was_not_measured_is_as_it_was(speed: Speed, capacity: Capacity, context: int) -> None:
    assert answer_seconds(request(10**6), speed, capacity, context) == UNMEASURED_SECONDS


@given(counts, counts, counts, st.integers(1, 512), counts, st.integers(1, 200_000), speeds, speeds, st.booleans())
def test_a_machine_that_does_what_it_was_planned_to_do_is_never_cut_off(
    prompt: int,
    answer: int,
    others: int,
    sequences: int,
    kv_tokens: int,
    context: int,
    prompts: float,
    together: float,
    streams: bool,
) -> None:
    """All that stands before it is computed first, at a tenth of the speed that was measured."""
    asked = request(prompt, answer, Size(sequences, others), streams=streams)
    bound = answer_seconds(asked, Speed(prompts, together), Capacity(sequences, kv_tokens), context)
    assert LEAST_SECONDS <= bound <= MOST_SECONDS
    needs = (prompt + min(others, kv_tokens)) / prompts + context / (together / sequences)
    needs += 0 if streams else min(answer or context, context) / (together / sequences)
    assert bound >= min(10 * needs, MOST_SECONDS)


@pytest.mark.parametrize("handler", [stream(then="stall"), stall])
async def test_a_request_that_a_living_replica_has_lost_is_told_so(
    world: World, handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned, "LEAST_SECONDS", 0.2)
    runtime = await world.runtime(handler)
    backend = Backend("apps", "demo", (Replica("a", runtime.url),), capacity=PLACES, context_tokens=8192)
    world.publish(replace(backend, speed=Speed(1e9, 1e9)))
    response = await asyncio.wait_for(world.chat(), 20)
    assert response.status == 504 and (await response.json())["error"]["code"] == "answer_timeout"


async def test_a_queue_that_is_heard_of_later_gives_more_time() -> None:
    """Others send to the replica directly: what was to begin at once stands behind them."""
    go, bounds = asyncio.Event(), iter((0.01, 600.0))

    def bound() -> float:
        known = next(bounds, 0.01)
        if known > 1:
            asyncio.get_running_loop().call_later(0.05, go.set)
        return known

    async def alive(_: float) -> bool:
        return True

    assert await asyncio.wait_for(Patience(60.0, bound, alive).wait(go.wait()), 20)


async def test_patience_that_ends_is_told_apart_from_a_client_that_leaves() -> None:
    async def dead(_: float) -> bool:
        return False

    patience, me = Patience(0.2, lambda: 60.0, dead), asyncio.current_task()
    assert me is not None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(patience.wait(asyncio.Event().wait()), 20)
    with pytest.raises(AnswerTimeoutError):
        await asyncio.wait_for(Patience(60.0, lambda: 0.1, dead).wait(asyncio.Event().wait()), 20)
    assert not me.cancelling()
    waits = asyncio.create_task(Patience(60.0, lambda: 60.0, dead).wait(asyncio.Event().wait()))
    await asyncio.sleep(0)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits


async def test_what_goes_wrong_while_a_replica_is_asked_ends_the_waiting() -> None:
    async def broken(_: float) -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        await asyncio.wait_for(Patience(0.2, lambda: 60.0, broken).wait(asyncio.Event().wait()), 20)
