"""Whose turn it is: adapters compute one after the other, as an engine has one at a time. Pure: the clock is passed in.

To change the adapter costs an engine some work of its own (llama.cpp lays out its graphs again: 4 ms of a model with 14
layers), so a turn lasts some steps where steps are short; where a step takes longer than a turn, every step is
another's.
"""

from __future__ import annotations

from collections.abc import Iterable

TURN_SECONDS = 0.1
"""What the streams of other adapters wait for at most, or for one step."""


class Turns:
    """Fair between adapters, whatever each of them has to compute. 0 is the model itself, and one like the others."""

    def __init__(self) -> None:
        self._at = 0
        self._left = 0.0
        """Seconds of the turn at hand."""
        self._clock = 0
        self._had: dict[int, int] = {}
        """When each had its last turn, in turns."""

    def order(self, present: Iterable[int]) -> list[int]:
        """The one whose turn it is, then the others, the one that waited longest first."""
        present = set(present)
        # Who comes anew stands behind those that wait: else who comes again and again is always first.
        self._had = {adapter: self._had.get(adapter, self._clock) for adapter in present}
        waiting = sorted(present, key=lambda adapter: (self._had[adapter], adapter == self._at, adapter))
        if self._at in present and self._left > 0:
            waiting.remove(self._at)
            waiting.insert(0, self._at)
        return waiting

    def computed(self, adapter: int, seconds: float) -> None:
        """A step of this adapter took so long."""
        if adapter != self._at or self._left <= 0:
            self._clock += 1
            self._left = TURN_SECONDS
        self._at, self._had[adapter] = adapter, self._clock
        self._left -= seconds
