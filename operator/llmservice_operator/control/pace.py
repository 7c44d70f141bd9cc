"""How often objects of one kind are written for one service, whatever their content. Pure: the clock is passed in.

The ledger notices who undoes one write; this notices who asks for something else all the time: a controller that edits
the service, or its labels, in a circle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HURRY_WRITES = 20
"""Writes of one kind for one service in HURRY_SECONDS; one more, and it is no person who edits."""
HURRY_SECONDS = 60.0
PAUSE_SECONDS = 60.0
"""Between two writes from then on."""
CALM_SECONDS = 150.0
"""It is over when nothing had to be written for so long."""


@dataclass(slots=True)
class Pace:
    """The writes of one kind for one service."""

    _writes: list[float] = field(default_factory=list)
    """When the last HURRY_WRITES were made."""
    _slowed: bool = False

    def slowed(self, now: float) -> bool:
        """Whether so much was written lately that it must be slowed down."""
        self._slowed = self._slowed and now < self._last + CALM_SECONDS
        return self._slowed

    def paused(self, now: float) -> bool:
        """Whether the next write has to wait."""
        return self.slowed(now) and now < self._last + PAUSE_SECONDS

    def wrote(self, now: float) -> None:
        """One was written."""
        self._writes = [*self._writes, now][-HURRY_WRITES:]
        self._slowed = self.slowed(now) or (len(self._writes) == HURRY_WRITES and self._writes[0] > now - HURRY_SECONDS)

    @property
    def _last(self) -> float:
        return self._writes[-1] if self._writes else float("-inf")
