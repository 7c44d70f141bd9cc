"""Replicas of one service that wait for room: one asks, and the others hear its answer. Hundreds may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llmservice_cli.local.room import Claim
from llmservice_runtime.contract.failure import FailureRecord

ROOM_SECONDS = 1.0
"""A replica that found no room looks again after so long."""


class Line:
    """`claim` asks for room for one of them, by its name; it blocks for as long as looking at every process takes."""

    def __init__(self, claim: Callable[[str], Claim | FailureRecord]) -> None:
        self._claim = claim
        self._asking = asyncio.Lock()
        self._refused: FailureRecord | None = None
        self._until = 0.0

    async def ask(self, replica: str) -> Claim | FailureRecord:
        """Room for one, or why there is none: of those that ask within a second after a refusal all hear the same."""
        async with self._asking:
            clock = asyncio.get_running_loop().time
            if self._refused is not None and clock() < self._until:
                return self._refused
            answer = await asyncio.to_thread(self._claim, replica)
            self._refused = answer if isinstance(answer, FailureRecord) else None
            self._until = clock() + ROOM_SECONDS
            return answer
