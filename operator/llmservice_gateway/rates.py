"""How many a second, fading: what came lately counts most. Pure; `now` is monotonic seconds."""

from __future__ import annotations

import math

SECONDS = 30.0
"""What came so long ago counts a third (1/e)."""


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
