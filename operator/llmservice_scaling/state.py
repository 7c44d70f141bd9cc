"""What the policy remembers from one decision to the next.

All times are on a clock of its own: the time that it saw pass. It goes on by at most LONGEST_STEP_SECONDS from one
decision to the next and never back, so a clock that jumps, or a process that was stopped for an hour, neither empties a
window nor makes idle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmservice_scaling.rules import STEP_SHARE
from llmservice_scaling.signals import RATE_SECONDS

LONGEST_STEP_SECONDS = 30.0
GROWTH_SECONDS = 15.0
RECENT_SECONDS = 15.0
"""How far back what came is looked at: longer, and a burst would be taken for a little more all the time."""

BURST_SECONDS = 30.0
"""What comes for longer is none."""
Highs = tuple[tuple[float, int], ...]
"""(time, wanted): of a window, only what nothing later exceeds; so the first is the highest."""
Stretches = tuple[tuple[float, float], ...]
"""(seconds, seconds of work that came in them), each of them until now, growing."""


@dataclass(frozen=True, slots=True)
class State:
    """Made by `begin`; the next one comes with each decision."""

    told_at: float
    """`now` of the last decision."""
    clock: float
    window: Highs
    """Of scaleDownSeconds: what was wanted, but while few replicas were ready only by what came."""
    counts: tuple[tuple[float, int], ...]
    """(time, replicas) of the last GROWTH_SECONDS."""
    idle_since: float | None = None
    awaited_at: float | None = None
    """When somebody last asked while none was there or one started; None = all are ready, or nobody did."""
    came: tuple[tuple[float, float, float], ...] = ()
    """(time, seconds until it, work per second in them) of the last RECENT_SECONDS, RATE_SECONDS apart at least."""
    lowered_at: float | None = None
    """When `kept` last fell."""
    kept: int = 0
    """Replicas that stay for what comes: as many as the window's highest, and those above it that go in steps."""
    brief: Highs = ((0.0, 0),)
    """Of as long as a replica takes to start: everything that was wanted."""
    behind_since: float | None = None
    """When few replicas were ready, or one of those ordered then still started; None = what waited for them is done."""
    lows: Highs = ((0.0, 0),)
    """Of BURST_SECONDS: what was wanted for what comes, negative."""
    decided: int = 0
    """Replicas by the last decision."""

    @staticmethod
    def begin(replicas: int, now: float) -> State:
        """Of a new leader: what it finds was wanted a moment ago."""
        return State(now, 0.0, ((0.0, replicas),), ((0.0, replicas),), kept=replicas, decided=replicas)

    def pass_time(self, now: float) -> State:
        """As much as the policy believes."""
        step = min(max(0.0, now - self.told_at), LONGEST_STEP_SECONDS)
        return replace(self, told_at=now, clock=self.clock + step)

    def found(self, replicas: int) -> State:
        """More than were there and than were decided: somebody else added some, which stay as what came does."""
        seen = self.counts[-1][1]  # what was decided may not be written yet
        return replace(self, kept=replicas) if replicas > max(self.decided, seen) else self

    def keep_window(self, seconds: float) -> State:
        """Time that nothing was known in does not count for the windows."""
        window, brief = (tuple((at + seconds, high) for at, high in one) for one in (self.window, self.brief))
        return replace(self, window=window, brief=brief)

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

    def fall_behind(self, few: bool, starting: bool, done: bool, seconds: float) -> State:
        """`few` replicas are ready, so what waits until others are is made up for once: as long as any start, then
        until it is `done`, which takes no longer than `seconds`."""
        if few or (starting and self.behind_since is not None):
            return replace(self, behind_since=self.clock)
        over = self.behind_since is None or done or self.clock - self.behind_since > seconds
        return replace(self, behind_since=None) if over else self

    def come(self, comes: int) -> State:
        """Of what comes now so many are wanted."""
        return replace(self, lows=_highs(self.lows, self.clock, -comes, BURST_SECONDS))

    def remember(self, lasting: int, seconds: float, wanted: int, brief_seconds: float) -> State:
        """`lasting` goes into the window, what is older than `seconds` out of it; `wanted` so into the brief one."""
        window = _highs(self.window, self.clock, lasting, seconds)
        return replace(self, window=window, brief=_highs(self.brief, self.clock, wanted, brief_seconds))

    def forget(self) -> State:
        """None are left, and what was wanted before does not bring them back."""
        nothing = ((self.clock, 0),)
        return replace(self, window=nothing, brief=nothing, kept=0, behind_since=None)

    def step(self, current: int, least: int, seconds: float) -> State:
        """`kept` falls to what was wanted in the window, `least` at the lowest: in steps, `seconds` apart, but at once
        where nothing was wanted."""
        low, kept = max(self.window[0][1], min(least, current)), min(self.kept, current)
        if low >= kept:
            return replace(self, kept=low)
        if not self.highest and self.idle_since is not None:
            return replace(self, kept=low, lowered_at=self.clock)
        if self.lowered_at is not None and self.clock - self.lowered_at < seconds:
            return self
        return replace(self, kept=max(low, kept - max(1, int(kept * STEP_SHARE))), lowered_at=self.clock)

    def count(self, replicas: int) -> State:
        """How many there are now."""
        kept = [(at, count) for at, count in self.counts if at > self.clock - GROWTH_SECONDS and count < replicas]
        return replace(self, counts=(*kept, (self.clock, replicas)))

    @property
    def highest(self) -> int:
        """Of both windows."""
        return max(self.window[0][1], self.brief[0][1])

    @property
    def steady(self) -> int:
        """Wanted for what comes all the time of the last BURST_SECONDS."""
        return -self.lows[0][1]

    @property
    def fewest(self) -> int:
        """Replicas there were at some time in the last GROWTH_SECONDS: what growth is measured from."""
        return self.counts[0][1]

    @property
    def idle_seconds(self) -> float | None:
        """For how long nobody has asked; None = somebody does, or it is not known."""
        return None if self.idle_since is None else self.clock - self.idle_since


def _highs(window: Highs, clock: float, wanted: int, seconds: float) -> Highs:
    kept = (one for one in window if one[1] > wanted and one[0] > clock - seconds)
    return (*kept, (clock, wanted))
