"""The plan of a step: who gets how many tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.batching.scheduler import (
    CHUNK_UNIT,
    DEEP,
    SHORT_PROMPT,
    STEP_SECONDS,
    TILE_SECONDS,
    TURN,
    Pace,
    StepBound,
    backlog,
    plan_step,
    turns,
)


@pytest.mark.parametrize(
    ("pending", "chunk", "batch", "free", "taken"),
    [
        pytest.param([1, 1, 1], 64, 512, 999, [1, 1, 1], id="all generate"),
        pytest.param([2000], 64, 512, 9999, [512], id="a lone prompt takes a whole batch"),
        pytest.param([2000, 1], 64, 512, 9999, [64, 1], id="beside generation a prompt takes a chunk"),
        pytest.param([400, 400, 1], 512, 2048, 9999, [400, 112, 1], id="prompts share the chunk in order of arrival"),
        pytest.param(
            [2000, 40, 50, 1], 160, 2048, 9999, [64, 40, 50, 1], id="short prompts go whole, before long ones"
        ),
        pytest.param([2000, 40, 1], 0, 2048, 9999, [0, 40, 1], id="a step that rests from chunks begins short ones"),
        pytest.param([2000, 100, 1], 160, 2048, 9999, [64, 100, 1], id="beside short ones a long one gets a tile"),
        pytest.param([100] * 4 + [1] * 9, 64, 2048, 9999, [100, 0, 0, 0] + [1] * 9, id="a few go one after the other"),
        pytest.param([40] * 4 + [1] * 9, 64, 2048, 9999, [40, 40, 40, 0] + [1] * 9, id="as many as the burst allows"),
        pytest.param([100] * 5 + [1] * 9, 64, 2048, 9999, [100] * 5 + [1] * 9, id="many beside few go together"),
        pytest.param(
            [2000] + [100] * 5 + [1], 64, 512, 9999, [64] + [100] * 4 + [47] + [1], id="a long one still moves on"
        ),
        pytest.param([300, 300], 64, 512, 9999, [300, 212], id="without generation prompts share the batch"),
        pytest.param([2000, 5, 90], 128, 512, 9999, [128, 5, 90], id="without generation it gets a chunk"),
        pytest.param([2000, 5, 90], 0, 512, 9999, [0, 5, 90], id="or waits for the short ones once"),
        pytest.param([2000, 5, 90], 64, 64, 9999, [32, 5, 27], id="and leave half to long ones"),
        pytest.param([1, 1, 1], 64, 512, 2, [1, 1, 0], id="too little memory: the oldest go on"),
        pytest.param([100, 1], 64, 512, 11, [10, 1], id="a prompt fills what memory is left"),
    ],
)
def test_decision_table(pending: list[int], chunk: int, batch: int, free: int, taken: list[int]) -> None:
    limits = [batch] * len(pending)
    assert plan_step(pending, limits, chunk=chunk, burst=128, prompt=batch, batch=batch, free=free) == taken


@given(
    st.lists(st.integers(1, 300), max_size=20),
    st.integers(0, 300),
    st.integers(1, 300),
    st.integers(20, 600),
    st.integers(0, 600),
    st.integers(1, 600),
)
def test_invariants(pending: list[int], chunk: int, burst: int, batch: int, free: int, prompt: int) -> None:
    limits = [batch] * len(pending)
    taken = plan_step(pending, limits, chunk=chunk, burst=burst, prompt=prompt, batch=batch, free=free)
    assert sum(t for t, p in zip(taken, pending, strict=True) if p > 1) <= prompt
    assert all(0 <= t <= p for t, p in zip(taken, pending, strict=True))
    assert sum(taken) <= min(batch, free)
    generating = [t for t, p in zip(taken, pending, strict=True) if p == 1]
    if sum(generating) < len(generating):
        assert sum(taken) == sum(generating)
    if free and pending:
        assert sum(taken) > 0
    short = [lane for lane, tokens in enumerate(pending) if 1 < tokens <= SHORT_PROMPT]
    room = min(batch, free) - len(generating)
    if generating and short and room > CHUNK_UNIT and prompt > CHUNK_UNIT:
        assert taken[short[0]] > 0  # the first short prompt moves on in any case
        if 2 * len(short) < len(generating):
            assert sum(taken[lane] for lane in short) <= max(burst, pending[short[0]])
    if not generating and short and min(room, prompt) > 1:
        assert taken[short[0]] > 0  # also on a machine where a long one takes minutes
    if generating and chunk == 0:
        assert all(t == 0 for t, p in zip(taken, pending, strict=True) if p > SHORT_PROMPT)


@pytest.mark.parametrize(
    ("pending", "depths", "may"),
    [
        pytest.param([24, 24, 24], [1000] * 3, [True, False, False], id="ends after a shared beginning take turns"),
        pytest.param([1, 24, 1, 24], [1000] * 4, [True, True, True, False], id="generation goes on meanwhile"),
        pytest.param([8] * 5, [1000] * 5, [True] * 4 + [False], id="very short ends share a turn"),
        pytest.param([100, 4], [1000] * 2, [True, False], id="a longer end goes whole, alone"),
        pytest.param([20, 30, 4], [1000] * 3, [True, False, False], id="a shorter one does not overtake"),
        pytest.param([48] * 4, [0] * 4, [True] * 4, id="fresh prompts are cheaper together"),
        pytest.param([900, 24, 48], [1100, 1000, 0], [True] * 3, id="only such ends take turns"),
    ],
)
def test_ends_of_known_prompts_take_turns(pending: list[int], depths: list[int], may: list[bool]) -> None:
    assert turns(pending, depths) == may


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2000)), min_size=1, max_size=20))
def test_turns_starve_nobody(lanes: list[tuple[int, int]]) -> None:
    pending, depths = [tokens for tokens, _ in lanes], [depth for _, depth in lanes]
    may = turns(pending, depths)
    queue = [lane for lane, (tokens, depth) in enumerate(lanes) if 1 < tokens <= 128 and depth >= DEEP]
    assert all(may[lane] for lane in range(len(lanes)) if lane not in queue)
    first, *others = [may[lane] for lane in queue] or [True]
    assert first
    assert others == sorted(others, reverse=True)
    assert sum(pending[lane] for lane in queue[1:] if may[lane]) < TURN


@given(
    speed=st.floats(0.02, 100_000),
    overhead=st.floats(0, 5),
    cold=st.floats(0, 300),
    lanes=st.lists(st.integers(2, 20_000), min_size=1, max_size=4),
    generating=st.booleans(),
)
def test_a_step_is_bounded_in_time_at_any_speed(
    speed: float, overhead: float, cold: float, lanes: list[int], generating: bool
) -> None:
    """Prompt tokens at `speed`, a pass over the weights in `overhead` seconds, and `cold` once, in the self-test."""
    batch = 2048
    bound, pace = StepBound(batch), Pace(batch)
    total = sum(lanes)
    bound.observe(0, 2, cold + overhead + 2 / speed)
    pending, steps, spent = [*lanes, *([1] if generating else [])], 0, 0.0
    one = overhead + 1 / speed
    while any(tokens > 1 for tokens in pending):
        taken = plan_step(
            pending,
            [batch] * len(pending),
            chunk=pace.chunk(*backlog(pending)),
            burst=pace.burst,
            prompt=bound.tokens,
            batch=batch,
            free=10**6,
        )
        prompt = sum(took for took, tokens in zip(taken, pending, strict=True) if tokens > 1)
        seconds = overhead + prompt / speed
        assert seconds <= max(2 * TILE_SECONDS, one)
        assert bound.seconds(prompt) > 0 or not prompt
        pace.observe(int(generating), prompt, seconds, prompt)
        bound.observe(int(generating), prompt, seconds)
        pending = [
            tokens if tokens == 1 else max(1, tokens - took) for tokens, took in zip(pending, taken, strict=True)
        ]
        if not generating:
            pending = [tokens for tokens in pending if tokens > 1]
        steps, spent = steps + 1, spent + seconds
        assert steps <= 2 * total
    if overhead + batch / speed <= STEP_SECONDS and not generating:
        # A fast machine pays with a few small steps at its first prompt, and at what is left of each.
        assert steps <= 12 + 6 * len(lanes) + total / (batch // 2)


def test_a_fast_machine_takes_whole_batches() -> None:
    bound = StepBound(2048)
    assert bound.tokens == CHUNK_UNIT  # nothing is known
    bound.observe(0, 64, 0.001)
    assert bound.tokens == 2048 and bound.seconds(2048) == pytest.approx(0.032)
    bound.observe(4, 0, 0.5)  # generation says nothing of prompts that were measured
    assert bound.tokens == 2048
