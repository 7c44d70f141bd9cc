"""A queue of keys: each at most once in it, none worked on twice at a time, failures wait longer and longer.

Pure bookkeeping on a clock that is passed in; `control.passes` turns it into tasks.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Generic, TypeVar

FIRST_BACKOFF = 1.0
"""Seconds after a first failure; doubled with each further one."""
LONGEST_BACKOFF = 300.0

K = TypeVar("K")


class KeyedQueue(Generic[K]):
    """Keys and when each is due, in seconds of the caller's monotonic clock. `jitter` gives a factor for backoffs."""

    def __init__(self, jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.25)) -> None:
        self._jitter = jitter
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}

    def __len__(self) -> int:
        """Keys that wait, due or not."""
        return len(self._due)

    def wake(self, key: K, at: float) -> None:
        """Have `key` worked on at `at` at the latest. While it is being worked on, it is worked on once more after.

        News end a backoff early, since they may be the cure, but not before FIRST_BACKOFF: what fails and makes
        events of its own must not turn into a storm.
        """
        at = max(at, self._not_before.get(key, at))
        if key in self._due and self._due[key] <= at:
            return
        self._due[key] = at
        if key not in self._working:
            self._push(key)

    def take(self, now: float) -> K | None:
        """The key that is due longest and not in work, or None. Give it back with `done` or `failed`."""
        due = self.next_due()
        if due is None or due > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._due[key]
        self._working.add(key)
        return key

    def next_due(self) -> float | None:
        """When the next key that is not in work is due; None when there is none."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._due.get(key) == at and key not in self._working:
                return at
            heapq.heappop(self._heap)  # woken for an earlier time, or taken since
        return None

    def looked(self, key: K) -> None:
        """Whoever works on `key` has looked at everything that it was woken for until now: no need to look again."""
        if key in self._working:
            self._due.pop(key, None)

    def done(self, key: K) -> None:
        """It went well: the next failure of this key is its first."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        self._give_back(key)

    def failed(self, key: K, now: float, at_least: float = 0.0) -> float:
        """It did not: due again after a backoff (or `at_least`, when the server asked for it). Returns the seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 30)) * self._jitter()
        wait = max(backoff, at_least)
        self._not_before[key] = now + min(FIRST_BACKOFF, wait)
        self._due.pop(key, None)
        self._give_back(key)
        self.wake(key, now + wait)
        return wait

    def abandoned(self, now: float) -> None:
        """Whoever worked on keys is gone: those are due again."""
        for key in list(self._working):
            self._give_back(key)
            self.wake(key, now)

    def _give_back(self, key: K) -> None:
        self._working.discard(key)
        if key in self._due:
            self._push(key)

    def _push(self, key: K) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self._due[key], self._order, key))

    def failures(self, key: K) -> int:
        """How often this key failed in a row."""
        return self._failures.get(key, 0)
