"""When the supervisor is told of work: not twice for every short request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llmservice_runtime.openai import reports
from llmservice_runtime.openai.drain import Drain


@asynccontextmanager
async def reported(drain: Drain) -> AsyncIterator[asyncio.Queue[int]]:
    """What was running whenever a report was made."""
    made: asyncio.Queue[int] = asyncio.Queue()

    async def report() -> None:
        made.put_nowait(drain.running)

    task = asyncio.ensure_future(reports.report_work(drain.busy, drain.idle, report))
    yield made
    task.cancel()


async def test_a_request_is_reported_when_it_comes_and_when_it_has_ended() -> None:
    drain = Drain()
    async with asyncio.timeout(30), reported(drain) as made:
        with drain.admitted():
            assert await made.get() == 1
        assert await made.get() == 0


async def test_short_requests_one_after_the_other_are_one_stretch_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "STEP_REPORT_SECONDS", 1000.0)
    monkeypatch.setattr(reports, "REST_SECONDS", 1000.0)  # no machine is so slow that they seem apart
    drain = Drain()
    async with asyncio.timeout(30), reported(drain) as made:
        for _ in range(100):
            with drain.admitted():
                await asyncio.sleep(0)
        assert made.qsize() == 1


async def test_long_work_is_reported_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "STEP_REPORT_SECONDS", 0.01)
    drain = Drain()
    async with asyncio.timeout(30), reported(drain) as made:
        with drain.admitted():
            assert [await made.get() for _ in range(3)] == [1, 1, 1]
