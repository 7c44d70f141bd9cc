"""Loops beside each other: what ends one of them, and what ends the term."""

from __future__ import annotations

import asyncio

import pytest

from llmservice_kube.errors import LeadershipLost
from llmservice_operator.control import term
from llmservice_operator.control.health import Health
from llmservice_operator.control.term import Loop, run_term


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term, "FIRST_PAUSE", 0.01)


async def test_a_bug_in_one_loop_ends_no_other_and_is_told_and_the_loop_begins_anew() -> None:
    health, lives, other = Health(1e9), 0, asyncio.Event()
    mended = asyncio.Event()

    async def buggy() -> None:
        nonlocal lives
        lives += 1
        if lives < 3:
            raise ZeroDivisionError("made")
        mended.set()
        await other.wait()

    async def fine() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            other.set()

    running = asyncio.create_task(run_term([Loop("odd", buggy), Loop("fine", fine)], health))
    async with asyncio.timeout(10):
        await mended.wait()
    assert not other.is_set()
    assert health.problems["odd"] == "it ended by a bug: ZeroDivisionError: made; again in 0 s"
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled() and other.is_set()


async def test_a_term_ends_when_a_loop_finds_that_leadership_is_lost_also_deep_within() -> None:
    async def deep() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lost())
            tasks.create_task(asyncio.Event().wait())

    async def lost() -> None:
        raise LeadershipLost("made")

    with pytest.raises(LeadershipLost, match="made"):
        await run_term([Loop("passes", deep), Loop("other", asyncio.Event().wait)], Health(1e9))


async def test_a_loop_that_ends_by_itself_is_told_and_begins_anew() -> None:
    health, lives, again = Health(1e9), 0, asyncio.Event()

    async def short() -> None:
        nonlocal lives
        lives += 1
        if lives == 2:
            again.set()

    running = asyncio.create_task(run_term([Loop("short", short)], health))
    async with asyncio.timeout(10):
        await again.wait()
    assert "ended by itself" in health.problems["short"]
    running.cancel()
    await asyncio.wait([running])


async def test_a_loop_that_ends_by_something_cancelled_within_begins_anew() -> None:
    health, lives, again = Health(1e9), 0, asyncio.Event()

    async def odd() -> None:
        nonlocal lives
        lives += 1
        if lives == 2:
            again.set()
            await asyncio.Event().wait()
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    running = asyncio.create_task(run_term([Loop("odd", odd), Loop("fine", asyncio.Event().wait)], health))
    async with asyncio.timeout(10):
        await again.wait()
    assert "cancelled" in health.problems["odd"]
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
