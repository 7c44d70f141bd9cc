"""A term of leadership: loops that run beside each other until it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from llmservice_kube.errors import LeadershipLost
from llmservice_operator.control.health import Health

FIRST_PAUSE = 1.0
"""Seconds until a loop that ended by a bug begins anew; doubled each time that it ends soon again."""
LONGEST_PAUSE = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """Something that goes on for the whole term. `name` is what logs and readiness call it."""

    name: str
    run: Callable[[], Awaitable[object]]


async def run_term(loops: Sequence[Loop], health: Health) -> None:
    """Run them until cancelled. Raises LeadershipLost when one of them finds that the term is over.

    A bug that ends a loop ends neither the others nor the operator: it is told, and that loop begins anew.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            for loop in loops:
                tasks.create_task(_keep(loop, health), name=loop.name)
    except BaseExceptionGroup as group:
        raise _first(group) from group


async def _keep(loop: Loop, health: Health) -> None:
    pause = FIRST_PAUSE
    while True:
        began = time.monotonic()
        try:
            await loop.run()
            said = "it ended by itself"
        except Exception as error:
            cause = _first(error) if isinstance(error, BaseExceptionGroup) else error
            if isinstance(cause, LeadershipLost):
                raise cause from error
            logger.exception("the loop %r ended by a bug", loop.name)
            said = f"it ended by a bug: {type(cause).__name__}: {cause}"
        except asyncio.CancelledError:
            if cancelled():
                raise
            logger.exception("the loop %r ended by something in it that was cancelled", loop.name)
            said = "it ended by something in it that was cancelled"
        if time.monotonic() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        health.problem(loop.name, f"{said}; again in {pause:.0f} s", seconds=LONGEST_PAUSE)
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)


def cancelled() -> bool:
    """Whether it is this task that is to end. A CancelledError of its own accord is a bug like any other."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The cause to tell: that the term is over, if it is among them."""
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if isinstance(leaf, LeadershipLost)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
