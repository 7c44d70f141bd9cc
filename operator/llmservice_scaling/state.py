"""What the policy remembers from one decision to the next.

All times are on a clock of its own: the time that it saw pass. It goes on by at most LONGEST_STEP_SECONDS from one
decision to the next and never back, so a clock that jumps, or a process that was stopped for an hour, neither empties a
window nor makes idle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LONGEST_STEP_SECONDS = 30.0
GROWTH_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class State:
    """Made by `begin`; the next one comes with each decision."""

    told_at: float
    """`now` of the last decision."""
    clock: float
    window: tuple[tuple[float, int], ...]
    """(time, wanted): of the down-window, only what nothing later exceeds; so the first is the highest."""
    counts: tuple[tuple[float, int], ...]
    """(time, replicas) of the last GROWTH_SECONDS."""
    idle_since: float | None = None
    awaited_at: float | None = None
    """When somebody last asked while none was there or one started; None = all are ready, or nobody did."""

    @staticmethod
    def begin(replicas: int, now: float) -> State:
        """Of a new leader: what it finds was wanted a moment ago."""
        return State(now, 0.0, ((0.0, replicas),), ((0.0, replicas),))

    def pass_time(self, now: float, believed: bool) -> State:
        """Time that nothing was known in does not count for the window."""
        step = min(max(0.0, now - self.told_at), LONGEST_STEP_SECONDS)
        window = self.window if believed else tuple((at + step, wanted) for at, wanted in self.window)
        return replace(self, told_at=now, clock=self.clock + step, window=window)

    def remember(self, wanted: int, seconds: float) -> State:
        """`wanted` goes into the window, what is older than `seconds` out of it."""
        kept = [(at, high) for at, high in self.window if high > wanted and at > self.clock - seconds]
        return replace(self, window=(*kept, (self.clock, wanted)))

    def forget(self) -> State:
        """None are left, and what was wanted before does not bring them back."""
        return replace(self, window=((self.clock, 0),))

    def count(self, replicas: int) -> State:
        """How many there are now."""
        kept = [(at, count) for at, count in self.counts if at > self.clock - GROWTH_SECONDS and count < replicas]
        return replace(self, counts=(*kept, (self.clock, replicas)))

    @property
    def highest(self) -> int:
        """Of the window."""
        return self.window[0][1]

    @property
    def fewest(self) -> int:
        """Replicas there were at some time in the last GROWTH_SECONDS: what growth is measured from."""
        return self.counts[0][1]

    @property
    def idle_seconds(self) -> float | None:
        """For how long nobody has asked; None = somebody does, or it is not known."""
        return None if self.idle_since is None else self.clock - self.idle_since
