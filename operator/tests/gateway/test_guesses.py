"""Wrong keys one after the other: whoever shows them waits, and nobody is shut out for it."""

from __future__ import annotations

import asyncio

import pytest

from llmservice_gateway.keys.guesses import BURST, FORGET_SECONDS, MOST_ADDRESSES, MOST_WAITING, WAIT_SECONDS, Guesses
from llmservice_runtime.wire.errors import ApiError


class Time:
    """Stands still, but for who sleeps; `shut`: nobody wakes up."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shut = asyncio.Event()
        self.shut.set()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await self.shut.wait()
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def guesses(time: Time) -> Guesses:
    return Guesses(time, time.sleep)


def guess(guesses: Guesses, address: str = "10.0.0.1", times: int = BURST + 1) -> None:
    for number in range(times):
        assert guesses.wrong(address, f"{address} {number}")


async def test_who_mistypes_waits_for_nothing(time: Time, guesses: Guesses) -> None:
    guess(guesses, times=BURST)
    await guesses.turn("10.0.0.1")
    assert time.now == 0


async def test_who_guesses_waits_each_time_and_others_do_not(time: Time, guesses: Guesses) -> None:
    guess(guesses)
    await guesses.turn("10.0.0.2")
    assert time.now == 0
    await guesses.turn("10.0.0.1")
    await guesses.turn("::ffff:10.0.0.1")
    assert time.now == 2 * WAIT_SECONDS


async def test_it_is_forgotten_soon(time: Time, guesses: Guesses) -> None:
    guess(guesses, times=3 * BURST)
    time.now = 2 * BURST * FORGET_SECONDS
    await guesses.turn("10.0.0.1")
    assert time.now == 2 * BURST * FORGET_SECONDS


def test_an_old_key_that_is_shown_again_and_again_is_one(guesses: Guesses) -> None:
    assert guesses.wrong("10.0.0.1", "old") and not guesses.wrong("10.0.0.1", "old")


async def test_a_machine_has_one_network_of_ipv6(time: Time, guesses: Guesses) -> None:
    for number in range(BURST + 1):
        guesses.wrong(f"fd00::{number:x}%eth0", f"guess {number}")
    await guesses.turn("fd00::ffff")
    assert time.now == WAIT_SECONDS


async def test_only_so_many_wait_and_who_leaves_makes_room(time: Time, guesses: Guesses) -> None:
    guess(guesses)
    time.shut.clear()
    waiting = [asyncio.create_task(guesses.turn("10.0.0.1")) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refused:
        await guesses.turn("10.0.0.1")
    assert refused.value.status == 429 and refused.value.headers["Retry-After"] == "1"
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    waiting[0] = asyncio.create_task(guesses.turn("10.0.0.1"))
    time.shut.set()
    await asyncio.gather(*waiting)


def test_of_too_many_addresses_the_oldest_are_forgotten(guesses: Guesses) -> None:
    guess(guesses)
    for number in range(MOST_ADDRESSES):
        guesses.wrong(f"somewhere {number}", "guess")
    assert guesses.wrong("10.0.0.1", "10.0.0.1 10")
