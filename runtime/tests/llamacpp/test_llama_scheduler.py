"""The plan of a step: who gets how many tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.llamacpp.scheduler import CHUNK_UNIT, ChunkBudget, plan_step


@pytest.mark.parametrize(
    ("pending", "chunk", "batch", "free", "taken"),
    [
        pytest.param([1, 1, 1], 64, 512, 999, [1, 1, 1], id="all generate"),
        pytest.param([2000], 64, 512, 9999, [512], id="a lone prompt takes a whole batch"),
        pytest.param([2000, 1], 64, 512, 9999, [64, 1], id="beside generation a prompt takes a chunk"),
        pytest.param([400, 400, 1], 512, 2048, 9999, [400, 112, 1], id="prompts share the chunk in order of arrival"),
        pytest.param(
            [2000, 40, 50, 1], 160, 2048, 9999, [160, 40, 50, 1], id="short prompts go whole, before long ones"
        ),
        pytest.param([100] * 15 + [1], 64, 2048, 9999, [100] * 10 + [24] + [0] * 4 + [1], id="a burst of short ones"),
        pytest.param(
            [2000] + [100] * 15 + [1],
            64,
            2048,
            9999,
            [64] + [100] * 10 + [24] + [0] * 4 + [1],
            id="a long one still moves on",
        ),
        pytest.param([300, 300], 64, 512, 9999, [300, 212], id="without generation prompts share the batch"),
        pytest.param([1, 1, 1], 64, 512, 2, [1, 1, 0], id="too little memory: the oldest go on"),
        pytest.param([100, 1], 64, 512, 11, [10, 1], id="a prompt fills what memory is left"),
    ],
)
def test_decision_table(pending: list[int], chunk: int, batch: int, free: int, taken: list[int]) -> None:
    assert plan_step(pending, [batch] * len(pending), chunk=chunk, batch=batch, free=free) == taken


@given(
    st.lists(st.integers(1, 300), max_size=20),
    st.integers(1, 300),
    st.integers(20, 600),
    st.integers(0, 600),
)
def test_invariants(pending: list[int], chunk: int, batch: int, free: int) -> None:
    taken = plan_step(pending, [batch] * len(pending), chunk=chunk, batch=batch, free=free)
    assert all(0 <= t <= p for t, p in zip(taken, pending, strict=True))
    assert sum(taken) <= min(batch, free)
    generating = [t for t, p in zip(taken, pending, strict=True) if p == 1]
    if sum(generating) < len(generating):
        assert sum(taken) == sum(generating)
    if free and pending:
        assert sum(taken) > 0


def test_chunk_follows_the_measured_speed() -> None:
    fast, slow = ChunkBudget(2048), ChunkBudget(2048)
    for budget, per_token in ((fast, 0.0001), (slow, 0.01)):
        for _ in range(20):
            budget.observe(16, 0, 0.04)
            budget.observe(16, 128, 0.04 + 128 * per_token)
    assert slow.tokens == CHUNK_UNIT
    assert fast.tokens > 1000
