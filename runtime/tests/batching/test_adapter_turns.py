"""Adapters take turns, and nothing that one computed is reused by another."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.batching.kvcache import Copy, KvCache, Op
from llmservice_runtime.batching.neighbours import groups
from llmservice_runtime.batching.scheduler import CHUNK_UNIT, plan_step
from llmservice_runtime.batching.turns import TURN_SECONDS, Turns


def taken(turns: Turns, present: list[int], seconds: float) -> int:
    """Who computes the next step, of these."""
    first = turns.order(present)[0]
    turns.computed(first, seconds)
    return first


def test_long_steps_take_turns_one_by_one_and_short_ones_stay_together() -> None:
    turns = Turns()
    assert Counter(taken(turns, [0, 1, 2], 1.0) for _ in range(30)) == {0: 10, 1: 10, 2: 10}
    turns = Turns()
    steps = [taken(turns, [0, 1], TURN_SECONDS / 7.5) for _ in range(160)]
    assert sum(a != b for a, b in pairwise(steps)) < 25
    assert Counter(steps)[0] == Counter(steps)[1]


@given(st.lists(st.tuples(st.sets(st.integers(0, 4), min_size=1), st.floats(0.001, 1.0)), min_size=20, max_size=80))
def test_nobody_who_stays_waits_for_more_than_a_turn_of_each_other(steps: list[tuple[set[int], float]]) -> None:
    turns, waited = Turns(), Counter[int]()
    for others, seconds in steps:
        present = sorted(others | {9})
        first = taken(turns, present, seconds)
        waited = Counter() if first == 9 else waited + Counter([first])
        if first != 9:
            longest = max(1, round(TURN_SECONDS / 0.001) + 1)
            assert waited[first] <= longest


def test_one_that_nothing_else_is_beside_keeps_its_turn_until_another_comes() -> None:
    turns = Turns()
    for _ in range(10):
        assert taken(turns, [3], 1.0) == 3
    assert taken(turns, [0, 3], 1.0) == 0
    assert taken(turns, [0, 3], 1.0) == 3


def test_a_long_prompt_of_another_adapter_comes_in_chunks() -> None:
    alone = plan_step([2000], [2048], chunk=CHUNK_UNIT, burst=64, prompt=2048, batch=2048, free=9999)
    beside = plan_step([2000], [2048], chunk=CHUNK_UNIT, burst=64, prompt=2048, batch=2048, free=9999, beside=3)
    assert (alone, beside) == ([2000], [CHUNK_UNIT])


class Memory:
    """Which adapter computed each cell: what an engine's memory would hold."""

    def __init__(self, slots: int) -> None:
        self.held: list[list[tuple[int, int]]] = [[] for _ in range(slots)]

    def apply(self, ops: list[Op] | tuple[Op, ...]) -> None:
        for op in ops:
            if isinstance(op, Copy):
                self.held[op.target] = self.held[op.source][: op.length]
            else:
                self.held[op.slot] = self.held[op.slot][: op.length]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["place", "place", "end", "tidy", "drop"]), st.integers(0, 5), st.integers(0, 2)),
    max_size=60,
)


@given(ACTIONS, st.booleans())
def test_a_slot_is_reused_by_its_own_adapter_alone(actions: list[tuple[str, int, int]], shared: bool) -> None:
    """Prompts that begin alike, of three adapters, in any order."""
    cache, memory = KvCache(6, 6 * 512, shared=shared, reuse=True), Memory(6)
    running: list[tuple[int, int]] = []
    for action, number, adapter in actions:
        if action == "place":
            prompt = np.concatenate([np.zeros(40, np.int32), np.full(20 + number, number, np.int32)])
            memory.apply(cache.make_room(prompt.size))
            placed = cache.place(prompt, adapter=adapter)
            if placed is None:
                continue
            memory.apply(placed.ops)
            assert memory.held[placed.slot] == [(adapter, int(token)) for token in prompt[: placed.reused]]
            cache.extend(placed.slot, prompt[placed.reused :])
            memory.held[placed.slot] += [(adapter, int(token)) for token in prompt[placed.reused :]]
            running.append((placed.slot, adapter))
        elif action == "tidy" and cache.has_gap():
            source, target, ops = cache.close_gap()
            memory.apply(ops)
            running = [(target if slot == source else slot, of) for slot, of in running]
        elif action == "drop":
            memory.apply(cache.drop(adapter))
            assert not any(slot.length for slot in cache.slots if not slot.busy and slot.adapter == adapter)
        elif running:
            slot, _ = running.pop(number % len(running))
            memory.apply(cache.release(slot, keep=True))
        for slot, of in running:
            assert {which for which, _ in memory.held[slot]} == {of}


def test_streams_of_one_adapter_stand_side_by_side() -> None:
    """Slots apart from each other are computed one pass each."""
    cache = KvCache(16, 16 * 512, shared=False, reuse=True)
    for number in range(12):
        prompt = np.full(60, 100 + number, np.int32)
        placed = cache.place(prompt, adapter=number % 3)
        assert placed is not None
        cache.extend(placed.slot, prompt)
    for adapter in range(3):
        assert groups({slot.number for slot in cache.slots if slot.busy and slot.adapter == adapter}) <= 2
