"""`decide`: how many replicas, and why."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from llmservice_scaling.decision import Decision, Explained, Outcome, Reason, why
from llmservice_scaling.demand import ARRIVALS, USABLE, Wanted, arriving, running, wanted
from llmservice_scaling.rules import Capacity, Rules
from llmservice_scaling.schedule import floor
from llmservice_scaling.signals import Signals, Validity
from llmservice_scaling.state import State
from llmservice_scaling.words import sentence

GROW_BY, GROW_LEAST = 2, 4
STEADY_SHARE = 0.25
"""Of what is wanted, that comes all the time: the rest is what waited, and no burst."""
COME_BACK_SECONDS = 600.0
"""Who waited for a replica in vain is told to come back within 120 s: for this long one that starts is kept."""


def decide(
    state: State | None, signals: Signals, rules: Rules, capacity: Capacity, now: float, wall: datetime
) -> Outcome:
    """How many replicas, and the state to bring to the next decision. Pure.

    `state` None = a leader that has just begun. `now` is in seconds, on the clock that readings are dated by; it should
    be one that can't be set. `wall` has a time zone and serves warm floors alone. To be called every few seconds, and
    at once when a request is held.
    """
    current = signals.replicas
    before = (state or State.begin(current, now)).found(current)
    state = before.pass_time(now)
    work = arriving(signals, capacity, now)
    rate = work.value if work.value is not None and work.validity in USABLE and math.isfinite(work.value) else None
    each = wanted(signals, rules, capacity, now, work, state.stretches(rate or 0.0))
    believed = not any(one.holds for one in each)
    streams = min(_streams(signals, capacity, now), current)
    want = max([streams, *(one.replicas for one in each if one.replicas is not None)])

    state = state if rate is None else state.arrived(rate)
    state = state if believed else state.keep_window(state.clock - before.clock)
    state = _remembered(state.count(current), signals, each, want, believed, rules, capacity)
    state = _idle(state, signals, want, now)

    most = max(current, GROW_BY * state.fewest, state.fewest + GROW_LEAST)
    warm = floor(rules.floors, wall)
    least = min(max(rules.min_replicas, warm), rules.max_replicas)
    state = state.step(current, least, rules.step_seconds) if believed else state
    target = max(want, state.highest)
    if target > current:
        count, reason = min(target, most), Reason.WANTED if target <= most else Reason.GROWTH_LIMITED
    elif not believed:
        count, reason = current, Reason.HELD
    else:
        count, reason = _downwards(state, before.kept, want, current, least, rules)
    if reason is Reason.IDLE:
        state = state.forget()
    if count < least:
        count, reason = least, Reason.WARM_FLOOR if warm > rules.min_replicas else Reason.MIN_REPLICAS
    elif count > rules.max_replicas:
        count, reason = rules.max_replicas, Reason.MAX_REPLICAS

    signals_explained = tuple(_explained(one, most, least, rules.max_replicas, count, current) for one in each)
    decision = Decision(
        replicas=count,
        before=current,
        reason=reason,
        sentence="",
        signals=signals_explained,
        highest=state.highest,
        streams=streams,
        warm_floor=warm,
        idle_seconds=state.idle_seconds,
    )
    return Outcome(replace(decision, sentence=sentence(decision, signals, rules)), replace(state, decided=count))


def _streams(signals: Signals, capacity: Capacity, now: float) -> int:
    """Replicas that what runs needs, packed as close as they can; 1 also for what is held."""
    held = signals.held.validity(now) in USABLE and bool(signals.held.value)
    return max(math.ceil(running(signals, now) / capacity.places), int(held))


def _remembered(
    state: State,
    signals: Signals,
    each: tuple[Wanted, ...],
    want: int,
    believed: bool,
    rules: Rules,
    capacity: Capacity,
) -> State:
    """What is wanted now goes into the windows. What waits because not half of the replicas that it wants are ready is
    made up for once: while it comes steadily, what comes is wanted for scaleDownSeconds, and the rest for as long as a
    replica takes to start. A burst may come back, and all that it wants is wanted for scaleDownSeconds."""
    window, want = rules.scale_down_seconds, min(want, rules.max_replicas)
    # With a target of the user's what comes is not what is wanted.
    comes = None if rules.in_flight else next(one.replicas for one in each if one.signal == ARRIVALS)
    few = 2 * (signals.replicas - signals.starting) < want
    done = believed and (comes is None or want <= comes)
    state = state.fall_behind(few, signals.starting > 0, done, window).come(comes or 0)
    once = state.behind_since is not None and state.steady >= STEADY_SHARE * want
    lasting = want if comes is None or not once else min(comes, want)
    return state.remember(lasting, window, want, min(capacity.load_seconds or window, window))


def _idle(state: State, signals: Signals, want: int, now: float) -> State:
    """Whether nobody asks, and since when. One that starts counts as asked for while those who waited may come back."""
    told = (signals.held, signals.in_flight, signals.engine_requests, signals.waiting_tokens, signals.prompt_rate)
    quiet = not want and all(one.validity(now) is Validity.VALID and one.value == 0 for one in told)
    asked = any(one.validity(now) in USABLE and one.value for one in told)
    if signals.replicas and not signals.starting:
        state = replace(state, awaited_at=None)
    elif asked:
        state = replace(state, awaited_at=state.clock)
    awaited = state.awaited_at is not None and state.clock - state.awaited_at < COME_BACK_SECONDS
    if not quiet or awaited:
        return replace(state, idle_since=None)
    return state if state.idle_since is not None else replace(state, idle_since=state.clock)


def _downwards(state: State, kept_before: int, want: int, current: int, least: int, rules: Rules) -> tuple[int, Reason]:
    """Not below what is kept for what comes, nor what was wanted a short time ago; from one to none only when idle. Not
    bounded yet."""
    if state.highest < current <= least:
        return state.highest, Reason.LOWERED
    low = max(state.kept, state.highest)
    if low <= 1 <= current and least == 0:
        if (state.idle_seconds or 0.0) >= rules.idle_seconds:
            return 0, Reason.IDLE
        if current == 1:
            return 1, Reason.STEADY if want == 1 else Reason.NOT_IDLE_YET
        low = 1
    if low < current:
        return low, Reason.CAUGHT_UP if kept_before < current else Reason.LOWERED
    if want == current:
        return current, Reason.STEADY
    return current, Reason.WINDOW if state.kept <= state.highest else Reason.LOWERING


def _explained(one: Wanted, most: int, least: int, highest: int, decided: int, current: int) -> Explained:
    limited = None if one.replicas is None else min(one.replicas, most)
    bounded = None if limited is None else min(max(limited, least), highest)
    return Explained(one, limited, bounded, why(one, limited, bounded, decided, current))
