"""Rates and means of late, fading: what was last counts most. Pure; `now` is monotonic seconds."""

from __future__ import annotations

import math

SECONDS = 30.0
"""What came so long ago counts a third (1/e)."""
MEAN_SECONDS = 5.0
"""The same of what there was, in a mean."""


class Rate:
    """Counts and tells events per second."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._at = 0.0

    def add(self, amount: float, now: float) -> None:
        """So much happened."""
        self._sum = self._faded(now) + amount
        self._at = now

    def per_second(self, now: float) -> float:
        """Over about the last SECONDS."""
        return self._faded(now) / SECONDS

    def _faded(self, now: float) -> float:
        return self._sum * math.exp(-max(0.0, now - self._at) / SECONDS) if self._sum else 0.0


class Mean:
    """Of a count that stays as it is until the next one is set; never more than the highest of them."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._at = 0.0

    def set(self, count: int, now: float) -> None:
        """So many there are from now on."""
        self._mean, self._at, self._count = self.of_late(now), now, count

    def of_late(self, now: float) -> float:
        """Over about the last MEAN_SECONDS."""
        return self._count + (self._mean - self._count) * math.exp(-max(0.0, now - self._at) / MEAN_SECONDS)
