"""What several ask for at about the same time is made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from llmservice_gateway.console.sending import Answer

KEPT_SECONDS = 1.0
"""What was told is told again for so long, to all who may see the same: many consoles cost as much as one."""
MOST_KEPT = 256
"""Answers; of more, those go that were made first."""


@dataclass(frozen=True, slots=True)
class _Made:
    task: asyncio.Task[Answer]
    at: float


class Once:
    """Answers by what they are about, which says also who may see them. For one event loop."""

    def __init__(self) -> None:
        self._made: dict[Hashable, _Made] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `make` gave a moment ago, or gives now. Whoever leaves meanwhile takes it from nobody else."""
        loop = asyncio.get_running_loop()
        found = self._made.pop(key, None)
        if found is None or (found.task.done() and loop.time() - found.at >= KEPT_SECONDS):
            found = _Made(loop.create_task(_made(make)), loop.time())
        self._made[key] = found
        if len(self._made) > MOST_KEPT:
            del self._made[next(iter(self._made))]
        return await asyncio.shield(found.task)


async def _made(make: Callable[[], Awaitable[Answer]]) -> Answer:
    return await make()
