"""How prompts and generation share the machine: what is learned of it, and what its clients feel, on fake time."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import Figures, Machine, Ours, Policy, Whole, run  # type: ignore[import-not-found]

from llmservice_runtime.batching.scheduler import (
    CHUNK_BEATS,
    CHUNK_LEAST,
    CHUNK_SECONDS,
    CHUNK_SHARE,
    CHUNK_UNIT,
    REST,
    Pace,
)

EPYC = Machine(beat=0.026, lane=0.00135, token=1 / 640)
"""Fitted to two cores of an AMD EPYC with a model of 200 M parameters (docs/benchmarks.md)."""
XEON = Machine(beat=0.045, lane=0.0015, token=1 / 370)
"""The same on two cores of an Intel machine: prompts of 2,000 tokens every 5 s are a little more than it can do."""
EPYC_2 = Machine(beat=0.010, lane=0.0009, token=1 / 1050)
"""Two cores of a newer EPYC: prompts of 2,000 tokens every 5 s are less than half of what it can do."""
FAST = Machine(beat=0.012, lane=0.0004, token=1 / 6000)


@given(st.floats(0.001, 1.0), st.floats(0.00001, 0.1), st.integers(1, 32), st.integers(129, 20_000))
def test_a_chunk_follows_the_machine_and_what_waits(beat: float, token: float, lanes: int, tokens: int) -> None:
    pace = Pace(2048)
    for _ in range(60):
        pace.observe(lanes, 0, beat)
        pace.observe(lanes, 128, beat + 128 * token, 128)
        for _ in range(REST):
            assert pace.chunk(tokens, 0) == 0  # whoever generates gets a step of its own
            pace.observe(lanes, 0, beat)
    least, most = (beats * beat for beats in CHUNK_BEATS)
    wanted = min(max(least, tokens * token / CHUNK_SHARE), most, max(CHUNK_SECONDS, CHUNK_LEAST * beat))
    chunk = pace.chunk(tokens, 0)
    assert chunk % CHUNK_UNIT == 0 and CHUNK_UNIT <= chunk <= 2048
    assert chunk == CHUNK_UNIT or beat + chunk * token <= 1.1 * wanted
    assert chunk == 2048 or beat + (chunk + CHUNK_UNIT) * token >= 0.9 * wanted
    assert pace.burst <= chunk <= pace.chunk(2 * tokens, 0)


def test_a_chunk_waits_for_short_prompts_twice() -> None:
    pace = Pace(2048)
    for generated, prompt in ((8, 0), (8, 128), (8, 0), (0, 48)):
        pace.observe(generated, prompt, 0.05 + 0.001 * prompt)
    assert pace.chunk(2000, 40) > 0
    pace.observe(8, 40 + CHUNK_UNIT, 0.15, CHUNK_UNIT)
    pace.observe(8, 0, 0.05)
    for _ in range(2):
        assert pace.chunk(2000, 40) == 0 and pace.chunk(2000, 0) > 0
        pace.observe(8, 40, 0.1)
    assert pace.chunk(2000, 40) > 0


def test_what_short_prompts_take_beside_a_chunk_is_not_its_own() -> None:
    pace = Pace(2048)
    for _ in range(30):
        pace.observe(8, 0, 0.02)
        pace.observe(8, 64, 0.02 + 64 * 0.001)
    for _ in range(30):
        pace.observe(8, 400, 0.02 + 336 * 0.001 + 64 * 0.0018, 64)
    pace.observe(8, 0, 0.02)
    assert pace.chunk(1000, 0) == 64  # seven beats, one of them generation's, where 0.00108 each would be 128


def test_a_token_far_behind_the_beginning_may_cost_more() -> None:
    pace = Pace(2048)
    for _ in range(30):
        pace.observe(8, 0, 0.1)
        pace.observe(8, 64, 0.1 + 64 * 0.0005)
        pace.observe(8, 128, 0.1 + 128 * 0.002, 128)
    pace.observe(8, 0, 0.1)
    assert pace.burst == 192  # a beat of short prompts
    assert pace.chunk(2000, 0) == 256  # seven beats, one of them generation's


def test_the_time_of_a_chunk_can_be_set() -> None:
    pace = Pace(2048, seconds=0.2)
    for _ in range(30):
        pace.observe(8, 0, 0.05)
        pace.observe(8, 128, 0.05 + 128 * 0.001)
    assert pace.chunk(2000, 0) == pace.chunk(20_000, 0) == 128


def median(policy: type[Policy], slots: int, machine: Machine, streams: int, longs: int = 0) -> dict[str, float]:
    """Medians over a few orders of arrival."""
    runs = [run(policy(), slots, machine, streams, 8 if longs else 3, longs, seed) for seed in range(5)]
    q = Figures.quantile

    def of(share: float, field: str) -> float:
        return float(statistics.median(q(getattr(figures, field), share) for figures in runs))

    return {
        "throughput": statistics.median(figures.throughput for figures in runs),
        "first p50": of(0.5, "firsts"),
        "first p99": of(0.99, "firsts"),
        "gap p50": of(0.5, "gaps"),
        "gap p99": of(0.99, "gaps"),
        "longest": of(1.0, "gaps"),
    }


MACHINES = pytest.mark.parametrize("machine", [EPYC, EPYC_2, XEON, FAST], ids=["epyc", "epyc 2", "xeon", "fast"])


@MACHINES
@pytest.mark.parametrize("streams", [8, 16, 32])
def test_bursts_of_short_prompts_leave_streams_their_beat(machine: Machine, streams: int) -> None:
    """Beside a server of 16 slots that takes prompts whole: streams that end together begin together again."""
    ours, whole = median(Ours, 32, machine, streams), median(Whole, 16, machine, streams)
    assert ours["throughput"] >= 0.99 * whole["throughput"]
    assert ours["gap p99"] <= 2 * whole["gap p99"]
    assert ours["first p99"] <= 1.15 * whole["first p99"]


@MACHINES
@pytest.mark.parametrize("streams", [8, 16])
def test_long_prompts_leave_most_gaps_as_they_are(machine: Machine, streams: int) -> None:
    ours, whole = median(Ours, 32, machine, streams, 14), median(Whole, 16, machine, streams, 14)
    assert ours["throughput"] >= 0.95 * whole["throughput"]
    assert ours["gap p50"] <= 1.2 * whole["gap p50"]
    assert ours["longest"] <= 0.5 * whole["longest"]
    # On the fast ones less than one gap of a hundred is behind a whole prompt: the other server's p99 knows of none.
    assert ours["gap p99"] <= (10 * ours["gap p50"] if machine in (EPYC_2, FAST) else 0.5 * whole["gap p99"])
    assert ours["first p50"] <= 1.15 * whole["first p50"]
    assert ours["first p99"] <= 1.15 * whole["first p99"]
