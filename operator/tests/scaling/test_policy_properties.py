"""What holds of every decision, whatever is told."""

from __future__ import annotations

import dataclasses
import itertools
import math

from hypothesis import given
from hypothesis import strategies as st
from told import CAPACITY, MONDAY, READINGS, Service, told  # type: ignore[import-not-found]

from llmservice_scaling.policy import decide
from llmservice_scaling.rules import Capacity, Rules
from llmservice_scaling.signals import STALE_SECONDS, Reading, Signals
from llmservice_scaling.state import Highs, State

NOW = 10_000.0
counts = st.integers(0, 20)
values = st.one_of(st.just(0.0), st.floats(0.0, 1e7))
worthless = st.one_of(
    st.sampled_from([None, math.nan, math.inf, -math.inf, -1.0]).map(lambda value: Reading(value, NOW)),
    st.sampled_from([NOW - STALE_SECONDS - 1, NOW + 60, -1e12]).map(lambda at: Reading(0.0, at)),
    st.just(Reading(0.0, NOW, complete=False)),
)
good = values.map(lambda value: Reading(value, NOW))


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    least, more = draw(st.integers(0, 6)), draw(st.integers(0, 12))
    target = draw(st.one_of(st.none(), st.floats(0.5, 100.0)))
    return Rules(least, least + more, draw(st.floats(1.0, 900.0)), draw(st.floats(1.0, 900.0)), 2.0, target)


@st.composite
def capacities(draw: st.DrawFn) -> Capacity:
    speed = st.one_of(st.none(), st.floats(0.1, 1e6))
    places = draw(st.integers(1, 512)), draw(st.integers(1, 10**7))
    return Capacity(*places, *(draw(speed) for _ in range(5)))


@st.composite
def windows(draw: st.DrawFn, clock: float) -> Highs:
    ages = sorted(draw(st.lists(st.floats(0.0, 900.0), min_size=1, max_size=5)), reverse=True)
    highs = sorted(draw(st.lists(counts, min_size=len(ages), max_size=len(ages), unique=True)), reverse=True)
    return tuple((clock - age, high) for age, high in zip(ages, highs, strict=True))


@st.composite
def states(draw: st.DrawFn) -> State | None:
    """As decisions leave them: windows fall, counts rise."""
    if draw(st.booleans()):
        return None
    clock = draw(st.floats(0.0, 1e5))
    window, brief = (draw(windows(clock)) for _ in range(2))
    idle, awaited, lowered, behind = (draw(st.one_of(st.none(), st.floats(0.0, clock))) for _ in range(4))
    came = tuple((clock - age, 5.0, draw(st.floats(0.0, 1e4))) for age in range(25, 0, -5) if draw(st.booleans()))
    seen_at = NOW - draw(st.floats(-1e4, 1e4))
    lows = ((clock, -draw(counts)),)
    replicas, kept = ((clock - 1.0, draw(counts)),), draw(counts)
    return State(seen_at, clock, window, replicas, idle, awaited, came, lowered, kept, brief, behind, lows)


@st.composite
def signals(draw: st.DrawFn, readings: st.SearchStrategy[Reading] = good) -> Signals:
    replicas = draw(counts)
    named = {name: draw(readings) for name in READINGS}
    return Signals(replicas, draw(st.integers(0, replicas)), **named)


@given(states(), signals(st.one_of(good, worthless)), rules(), capacities())
def test_always_within_the_bounds(state: State | None, told: Signals, rules: Rules, capacity: Capacity) -> None:
    outcome = decide(state, told, rules, capacity, NOW, MONDAY)
    assert rules.min_replicas <= outcome.decision.replicas <= rules.max_replicas
    assert outcome.decision.sentence


@given(states(), signals(), rules(), capacities(), st.sampled_from(READINGS), values)
def test_more_of_a_signal_never_gives_fewer(
    state: State | None, told: Signals, rules: Rules, capacity: Capacity, name: str, value: float
) -> None:
    other = dataclasses.replace(told, **{name: Reading(value, NOW)})  # type: ignore[arg-type]
    low, high = sorted((told, other), key=lambda one: getattr(one, name).value)
    fewer, more = (decide(state, one, rules, capacity, NOW, MONDAY).decision.replicas for one in (low, high))
    assert fewer <= more


@given(states(), signals(), rules(), st.sampled_from(READINGS), worthless)
def test_nothing_goes_while_something_is_not_known(
    state: State | None, told: Signals, rules: Rules, name: str, reading: Reading
) -> None:
    told = dataclasses.replace(told, **{name: reading})  # type: ignore[arg-type]
    decision = decide(state, told, rules, CAPACITY, NOW, MONDAY).decision
    assert decision.replicas >= min(told.replicas, rules.max_replicas)
    assert not decision.metrics_available


@given(signals(worthless), rules())
def test_with_nothing_known_everything_stays(told: Signals, rules: Rules) -> None:
    decision = decide(None, told, rules, CAPACITY, NOW, MONDAY).decision
    assert decision.replicas == min(max(told.replicas, rules.min_replicas), rules.max_replicas)


@given(signals(), rules(), capacities(), st.lists(st.floats(-1e5, 1e5), min_size=40, max_size=40))
def test_the_same_again_and_again_comes_to_rest_whatever_the_clock_does(
    told: Signals, rules: Rules, capacity: Capacity, jumps: list[float]
) -> None:
    """Up, then down once, then nothing: no matter what the clock shows between two decisions."""
    service = Service(rules, told.replicas, NOW, capacity=capacity)
    seen = [told.replicas]
    for jump in (*jumps, *[30.0] * 200):
        service.now += jump
        named = {name: Reading(getattr(told, name).value, service.now) for name in READINGS}
        service.decide(Signals(service.replicas, 0, **named))
        seen.append(service.replicas)
    moves = [after - before for before, after in itertools.pairwise(seen) if after != before]
    turns = sum(1 for one, two in itertools.pairwise(moves) if (one > 0) != (two > 0))
    assert turns <= 1, seen
    assert len(set(seen[-20:])) == 1, seen


@given(states(), signals(), rules(), capacities())
def test_what_is_told_together_is_the_most_that_any_wants(
    state: State | None, told: Signals, rules: Rules, capacity: Capacity
) -> None:
    decision = decide(state, told, rules, capacity, NOW, MONDAY).decision
    bounded = [one.bounded for one in decision.signals if one.bounded is not None]
    assert decision.replicas >= max(bounded, default=0) or decision.replicas == rules.max_replicas


def test_what_is_not_given_to_a_test_is_0_and_told_now() -> None:
    assert told(NOW, 1).held == Reading(0.0, NOW)
