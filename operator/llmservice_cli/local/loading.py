"""How many replicas load at once on this machine, and who is next. Loading computes: more than there are cores to do it
only take from each other, and none is ready before all are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

LEAST = 2
"""One that loads for long does not keep all others waiting."""


def at_once(cpus: int) -> int:
    """How many load at once: one for each core."""
    return max(LEAST, cpus)


def next_one(waiting: Sequence[str], there: Mapping[str, int]) -> int:
    """Which of those that wait is next, by its place in the queue: the one of the service (`waiting` has their names)
    with the fewest replicas that load or have loaded, so that one of hundreds keeps no other from its first; of equals
    who came first."""
    return min(range(len(waiting)), key=lambda place: (there.get(waiting[place], 0), place))


class LoadQueue:
    """Replicas that have room and are to load; `most` do so at once. For one event loop."""

    def __init__(self, most: int) -> None:
        self.said = f"waits for its turn to load: {most} load at once on this machine's cores"
        self._most = most
        self._waiting: list[LoadTurn] = []
        self._loading: set[LoadTurn] = set()
        self._there: set[LoadTurn] = set()
        """Those that load or have loaded."""

    def join(self, service: str) -> LoadTurn:
        """Wait for a turn of this service (a full name), or have it at once."""
        turn = LoadTurn(self, service)
        self._waiting.append(turn)
        self._call()
        return turn

    def loaded(self, turn: LoadTurn) -> None:
        """Somebody else may load."""
        self._loading.discard(turn)
        self._call()

    def leave(self, turn: LoadTurn) -> None:
        """It runs no more, or wants to load no more."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        self._there.discard(turn)
        self.loaded(turn)

    def _call(self) -> None:
        while self._waiting and len(self._loading) < self._most:
            there = Counter(turn.service for turn in self._there)
            turn = self._waiting.pop(next_one([one.service for one in self._waiting], there))
            self._there.add(turn)
            self._loading.add(turn)
            turn.came.set()


class LoadTurn:
    """One replica's. `came` is set when it may load."""

    def __init__(self, queue: LoadQueue, service: str) -> None:
        self._queue = queue
        self.service = service
        self.came = asyncio.Event()

    def loaded(self) -> None:
        """It is ready, or has failed to be."""
        self._queue.loaded(self)

    def end(self) -> None:
        """It runs no more, or wants to load no more."""
        self._queue.leave(self)
