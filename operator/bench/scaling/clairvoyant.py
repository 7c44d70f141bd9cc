"""Who knows all arrivals: the fewest GPU-hours at which as many requests get their first token in time.

Searched in the simulator over schedules of one family: what arrives in each window, at a share of a replica's speed, up
to a ceiling; ordered a cold start ahead, kept where it is needed again within one. `keep` adds what our policy has to
do too: replicas that were wanted stay for scaleDownSeconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.scaling.policies import Past, Static
from bench.scaling.replica import Machine
from bench.scaling.simulate import Result, World, simulate
from bench.scaling.trace import Floats, Ints, Trace

WINDOWS = (5, 30)
CEILINGS = (16, 12, 9, 7, 5, 4)
TRIES = 5
SHARES = (0.15, 1.6)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A policy that reads nothing: `counts` for every second."""

    counts: list[int]
    period: float = 1.0

    @property
    def hours(self) -> float:
        """Of GPUs, at least."""
        return sum(self.counts) / 3600

    def __call__(self, past: Past, current: int, now: float) -> int:
        return self.counts[min(int(now), len(self.counts) - 1)]


def best(trace: Trace, world: World, attained: float, keep: float = 0.0) -> Result | None:
    """The cheapest that attains at least that; None = none does."""
    found: Result | None = None
    for window in WINDOWS:
        work = _work(trace, world.machine, window)
        for ceiling in CEILINGS:
            if ceiling <= world.most:
                found = _cheaper(trace, world, attained, found, partial(_schedule, work, ceiling, keep, world))
    return found


def steady(trace: Trace, world: World, attained: float) -> Result | None:
    """The fewest replicas that, ordered at once and kept, attain at least that. Nobody knows them beforehand."""
    results = (simulate(trace, Static(count), world) for count in range(world.least, world.most + 1))
    return next((result for result in results if result.attained >= attained), None)


def _cheaper(
    trace: Trace, world: World, attained: float, than: Result | None, make: Callable[[float], Schedule]
) -> Result | None:
    """By halving: the more a replica is to compute, the fewer there are. What costs as much is not simulated."""
    low, high = SHARES
    share = low
    for _ in range(TRIES + 1):
        schedule = make(share)
        if than is None or schedule.hours < than.gpu_hours:
            result = simulate(trace, schedule, world)
            if result.attained < attained:
                high = share
            else:
                low = share
                than = result if than is None or result.gpu_hours < than.gpu_hours else than
        else:
            low = share
        if high == SHARES[0]:
            break  # the ceiling is too low
        share = (low * high) ** 0.5
    return than


def _work(trace: Trace, machine: Machine, window: int) -> Floats:
    """Seconds of work per second that come from each second on, the mean of a window."""
    seconds = int(trace.times[-1]) + 1
    each = trace.prompts / machine.prompt_rate + trace.answers / machine.answer_rate
    arriving = np.bincount(trace.times.astype(np.int64), weights=each, minlength=seconds)
    total = np.concatenate([[0.0], np.cumsum(arriving)])
    ends = np.minimum(np.arange(seconds) + window, seconds)
    mean: Floats = (total[ends] - total[:seconds]) / window
    lasting: Floats = np.maximum(mean, np.concatenate([np.zeros(window), mean[:-window]]))  # until the window is over
    return lasting


def _schedule(work: Floats, ceiling: int, keep: float, world: World, share: float) -> Schedule:
    after = np.zeros(int(keep))  # what was wanted last is kept as well
    counts = np.clip(np.ceil(np.concatenate([work, after]) / share), world.least, ceiling).astype(np.int64)
    counts = _highest(counts, ahead=int(world.cold_start) + 1, behind=int(keep))
    return Schedule([*counts.tolist(), world.least])


def _highest(counts: Ints, ahead: int, behind: int) -> Ints:
    """Of each second, from so long before to so long after it."""
    padded = np.concatenate([np.zeros(behind, np.int64), counts, np.zeros(ahead, np.int64)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, ahead + behind + 1)
    highest: Ints = windows.max(axis=1)
    return highest
