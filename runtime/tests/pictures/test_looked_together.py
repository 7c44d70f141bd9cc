"""How many requests look at their pictures together."""

from __future__ import annotations

import asyncio

import pytest

from llmservice_runtime.contract.pictures import TOGETHER
from llmservice_runtime.openai.pictures.looking import Looking
from llmservice_runtime.wire.errors import ApiError


async def settled() -> None:
    """All has run that does not wait for an event: nothing here waits for a clock, or for another thread."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_pictures_wait_for_others_in_their_order() -> None:
    order: list[int] = []

    async def look(looking: Looking, number: int, pictures: int, done: asyncio.Event) -> None:
        async with looking.at(pictures, 9):
            order.append(number)
            await done.wait()

    async def all_of_them() -> None:
        looking, done = Looking(), [asyncio.Event() for _ in range(5)]
        sizes = (TOGETHER // 2, TOGETHER // 2, TOGETHER, 1, 0)
        tasks = [asyncio.ensure_future(look(looking, *each)) for each in zip(range(5), sizes, done, strict=True)]
        await settled()
        assert order == [0, 1, 4]
        done[1].set()
        await settled()
        assert order == [0, 1, 4]  # the small one does not overtake
        tasks[2].cancel()
        await settled()
        assert order == [0, 1, 4, 3]
        for each in done:
            each.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with looking.at(10 * TOGETHER, 1):  # alone, as many as there are
            with pytest.raises(ApiError) as caught:
                async with looking.at(1, 1):
                    raise AssertionError
        assert caught.value.status == 429

    asyncio.run(all_of_them())
