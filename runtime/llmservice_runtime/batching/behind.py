"""What batch work may take of an engine that live answers want as well. Pure.

It pauses while a live answer waits or computes its prompt: what that waits for is the step at hand, which is kept
short. Beside live answers that generate it may go on, as long as that costs them little: on a GPU, where a few lanes
more hardly lengthen a step, in nearly every one; on a CPU in few.
"""

from __future__ import annotations

SHARE = 0.1
"""Part of the time of live answers that generate which batch work may take from them..."""
LOOK = 32
"""...measured against steps of theirs alone, which one of so many is."""
STEP_SECONDS = 0.05
"""What prompts of batch work may add to a step: what a live request that comes now waits for. One tile goes in any
case."""
SMOOTHING = 0.2


class Share:
    """Keeps account of what batch work takes from live answers that generate."""

    def __init__(self) -> None:
        self._alone: float | None = None
        """Seconds of a step of live answers that generate, without batch work."""
        self._owed = 0.0
        self._beside = 0

    @property
    def allows(self) -> bool:
        """Whether batch work may compute in the next step, though live answers generate."""
        return self._alone is not None and self._owed <= 0 and self._beside < LOOK

    def alone(self, seconds: float) -> None:
        """A step in which only live answers generated."""
        self._beside = 0
        self._alone = seconds if self._alone is None else (1 - SMOOTHING) * self._alone + SMOOTHING * seconds
        self._owed = max(0.0, self._owed - SHARE * seconds)

    def beside(self, seconds: float, *, together: bool) -> None:
        """A step with batch work while live answers generate; `together`: they did so in it, else they waited."""
        self._beside += 1
        taken = seconds - min(seconds, self._alone or 0.0) if together else seconds
        self._owed = max(0.0, self._owed + taken - SHARE * (seconds - taken))
