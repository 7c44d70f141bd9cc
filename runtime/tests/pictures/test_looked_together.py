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


class Queue:
    """Room for eight pictures, four of them batch work's, and who came in."""

    def __init__(self) -> None:
        self.looking, self.came = Looking(8, 4), list[str]()

    async def look(self, name: str, pictures: int, done: asyncio.Event, batch: bool) -> None:
        async with self.looking.at(pictures, 3, batch=batch):
            self.came.append(name)
            await done.wait()


def test_batch_work_leaves_room_for_live_requests() -> None:
    async def all_of_them() -> None:
        queue = Queue()
        looking, came, look = queue.looking, queue.came, queue.look
        done = [asyncio.Event() for _ in range(5)]
        work = [asyncio.ensure_future(look(f"batch {n}", 2, done[n], True)) for n in range(3)]
        await settled()
        assert came == ["batch 0", "batch 1"]
        live = [asyncio.ensure_future(look(f"live {n}", 2, done[3 + n], False)) for n in range(2)]
        await settled()
        assert came[2:] == ["live 0", "live 1"], "those that wait are no live request's concern"
        with pytest.raises(ApiError):
            async with looking.at(1, 3, batch=True):
                raise AssertionError
        for event in done[:2]:
            event.set()
        await settled()
        assert came[4:] == [], "half is taken"
        for event in done:
            event.set()
        await asyncio.gather(*work, *live)
        assert came[4:] == ["batch 2"]
        async with looking.at(8, 3, batch=True):
            pass  # more than its part, where there are no others

    asyncio.run(all_of_them())


@pytest.mark.parametrize("leaves", [False, True])
def test_batch_work_does_not_go_before_a_live_request_that_waits(leaves: bool) -> None:
    async def all_of_them() -> None:
        queue = Queue()
        came, look = queue.came, queue.look
        done = [asyncio.Event() for _ in range(3)]
        first = asyncio.ensure_future(look("first", 2, done[0], True))
        await settled()
        live = asyncio.ensure_future(look("live", 8, done[1], False))
        await settled()
        more = asyncio.ensure_future(look("more", 2, done[2], True))
        await settled()
        assert came == ["first"], "there would be room, for ever"
        (live.cancel if leaves else done[0].set)()
        await settled()
        assert came[1:] == (["more"] if leaves else ["live"])
        for event in done:
            event.set()
        await asyncio.gather(first, live, more, return_exceptions=True)
        assert came[-1] == "more"

    asyncio.run(all_of_them())


def test_a_live_request_that_waits_goes_before_batch_work_that_waited_longer() -> None:
    async def all_of_them() -> None:
        queue = Queue()
        came, look = queue.came, queue.look
        done = [asyncio.Event() for _ in range(3)]
        first = asyncio.ensure_future(look("first", 8, done[0], False))
        await settled()
        work = asyncio.ensure_future(look("batch", 2, done[1], True))
        await settled()
        live = asyncio.ensure_future(look("live", 8, done[2], False))
        await settled()
        done[0].set()
        await settled()
        assert came == ["first", "live"]
        for event in done:
            event.set()
        async with asyncio.timeout(30):
            await asyncio.gather(first, work, live)
        assert came[-1] == "batch"

    asyncio.run(all_of_them())
