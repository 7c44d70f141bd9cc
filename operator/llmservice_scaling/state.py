"""What the policy remembers from one decision to the next.

All times are on a clock of its own: the time that it saw pass. It goes on by at most LONGEST_STEP_SECONDS from one
decision to the next and never back, so a clock that jumps, or a process that was stopped for an hour, neither empties a
window nor makes idle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmservice_scaling.signals import RATE_SECONDS

LONGEST_STEP_SECONDS = 30.0
GROWTH_SECONDS = 15.0
RECENT_SECONDS = 15.0
"""How far back what came is looked at: longer, and a burst would be taken for a little more all the time."""

Stretches = tuple[tuple[float, float], ...]
"""(seconds, seconds of work that came in them), each of them until now, growing."""


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
    came: tuple[tuple[float, float, float], ...] = ()
    """(time, seconds until it, work per second in them) of the last RECENT_SECONDS, RATE_SECONDS apart at least."""
    lowered_at: float | None = None
    """When replicas last went because fewer did."""

    @staticmethod
    def begin(replicas: int, now: float) -> State:
        """Of a new leader: what it finds was wanted a moment ago."""
        return State(now, 0.0, ((0.0, replicas),), ((0.0, replicas),))

    def pass_time(self, now: float) -> State:
        """As much as the policy believes."""
        step = min(max(0.0, now - self.told_at), LONGEST_STEP_SECONDS)
        return replace(self, told_at=now, clock=self.clock + step)

    def keep_window(self, seconds: float) -> State:
        """Time that nothing was known in does not count for the window."""
        return replace(self, window=tuple((at + seconds, wanted) for at, wanted in self.window))

    def stretches(self, rate: float) -> Stretches:
        """What came, with `rate` seconds of work per second in the last RATE_SECONDS."""
        since = self.clock - self.came[-1][0] if self.came else 0.0
        found, seconds, work = [(RATE_SECONDS, RATE_SECONDS * rate)], since, since * rate
        for _, length, each in reversed(self.came):
            seconds, work = seconds + length, work + length * each
            found.append((seconds, work))
        return tuple(found)

    def arrived(self, rate: float) -> State:
        """It came in the last RATE_SECONDS."""
        kept = tuple(one for one in self.came if one[0] > self.clock - RECENT_SECONDS + RATE_SECONDS)
        since = self.clock - kept[-1][0] if kept else RATE_SECONDS
        return replace(self, came=(*kept, (self.clock, since, rate)) if since >= RATE_SECONDS else kept)

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

    def lowered(self) -> State:
        """Some go now."""
        return replace(self, lowered_at=self.clock)

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
