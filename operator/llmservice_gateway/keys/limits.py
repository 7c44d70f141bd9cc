"""How much one key may ask for in a minute, at one of several gateways. Pure: the time is passed in."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from llmservice_api.gateway_keys import KeyRecord

SECONDS = 60


class Window:
    """What was counted in the last minute, to the second. `now` never goes back."""

    def __init__(self) -> None:
        self._slots: deque[tuple[int, int]] = deque()
        """(second, amount); a minute's at most."""
        self._total = 0

    def add(self, amount: int, now: float) -> None:
        """So much more."""
        self._forget(now)
        second = math.floor(now)
        before = self._slots.pop()[1] if self._slots and self._slots[-1][0] == second else 0
        self._slots.append((second, before + amount))
        self._total += amount

    def wait(self, most: float, now: float) -> float:
        """Seconds until less than `most` is counted, if nothing is added; 0 = it is so."""
        self._forget(now)
        left = self._total
        if left < most:
            return 0.0
        for second, amount in self._slots:
            left -= amount
            if left < most:
                return second + 1 + SECONDS - now
        return float(SECONDS)

    def _forget(self, now: float) -> None:
        """What is a minute old, also if it came at the end of its second."""
        while self._slots and self._slots[0][0] + 1 + SECONDS <= now:
            self._total -= self._slots.popleft()[1]


@dataclass(frozen=True, slots=True)
class Refused:
    """Over a limit: of what (`requests` or `tokens`), how many a minute are allowed, and when to ask again."""

    what: str
    per_minute: int
    seconds: float


@dataclass(slots=True)
class Meter:
    """One key's counts at this gateway."""

    requests: Window = field(default_factory=Window)
    tokens: Window = field(default_factory=Window)

    def ask(self, record: KeyRecord, gateways: int, now: float) -> Refused | None:
        """Count one request, unless it is over this gateway's part of a limit.

        How many tokens a request takes is known when it is over: what was taken holds up the requests that follow.
        """
        for what, window, most in (
            ("requests", self.requests, record.requests_per_minute),
            ("tokens", self.tokens, record.tokens_per_minute),
        ):
            if most is not None and (seconds := window.wait(most / gateways, now)):
                return Refused(what, most, seconds)
        self.requests.add(1, now)
        return None

    def took(self, tokens: int, now: float) -> None:
        """A request is over, and took so many."""
        if tokens > 0:
            self.tokens.add(tokens, now)
