"""Which replicas can't be connected to: they get nothing for a while, as long as others are there. Pure."""

from __future__ import annotations

from collections.abc import Collection

FAILURES = 2
"""Connects that fail in a row before a replica is left out."""
SECONDS = 10.0
"""It is left out for so long; then one request tries it again."""


class Reach:
    """Replicas by name; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        """In a row, of those that had any."""
        self._tried: dict[str, float] = {}

    def failed(self, replica: str, now: float) -> None:
        """No connection came about."""
        self.failures[replica] = self.failures.get(replica, 0) + 1
        self._tried[replica] = now

    def reached(self, replica: str) -> None:
        """It took a request."""
        if self.failures.pop(replica, None):
            del self._tried[replica]

    def keep(self, replicas: Collection[str]) -> None:
        """Forget all others."""
        for name in [name for name in self.failures if name not in replicas]:
            self.reached(name)

    def lost(self, replica: str, now: float) -> bool:
        """Whether others should be asked instead."""
        return self.failures.get(replica, 0) >= FAILURES and now - self._tried[replica] < SECONDS
