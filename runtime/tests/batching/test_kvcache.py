"""Bookkeeping of the KV memory, against a model that remembers which cell holds what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_runtime.batching.kvcache import MIN_REUSE, Copy, KvCache, Op


class Memory:
    """What llama.cpp's memory would hold: positions of each sequence."""

    def __init__(self, slots: int) -> None:
        self.held: list[list[int]] = [[] for _ in range(slots)]

    def apply(self, ops: list[Op] | tuple[Op, ...]) -> None:
        for op in ops:
            if isinstance(op, Copy):
                assert not self.held[op.target]
                self.held[op.target] = self.held[op.source][: op.length]
            else:
                del self.held[op.slot][op.length :]


def ints(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, np.int32)


def prefix(n: int, tail: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.concatenate([np.arange(n, dtype=np.int32), np.full(8, 1000 + tail, np.int32)])


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(["place", "step", "end", "drop", "evict", "tidy"]), st.integers(0, 99)), max_size=40
    ),
)
def test_memory_and_bookkeeping_agree(shared: bool, actions: list[tuple[str, int]]) -> None:
    slots, cells = 4, 400 if shared else 4 * 256
    cache, memory = KvCache(slots, cells, shared=shared, reuse=True), Memory(slots)
    running: list[int] = []
    for action, number in actions:
        if action == "place":
            prompt = prefix(20 + number % 3 * 20, number % 5)
            memory.apply(cache.make_room(prompt.size))
            if shared and cache.free < prompt.size:
                continue
            placed = cache.place(prompt)
            assert (placed is None) == (len(running) == slots)
            if placed is None:
                continue
            memory.apply(placed.ops)
            assert memory.held[placed.slot] == list(prompt[: placed.reused])
            assert placed.reused < prompt.size
            cache.extend(placed.slot, prompt[placed.reused :])
            memory.held[placed.slot] += list(prompt[placed.reused :])
            running.append(placed.slot)
        elif action == "tidy":
            if cache.has_gap():
                source, target, ops = cache.close_gap()
                memory.apply(ops)
                running[running.index(source)] = target
        elif action == "evict":
            memory.apply(cache.evict())
        elif running:
            slot = running[number % len(running)]
            if action == "step":
                memory.apply(cache.make_room(1))
                if not shared or cache.free:
                    cache.extend(slot, ints(number))
                    memory.held[slot].append(number)
            else:
                memory.apply(cache.release(slot, keep=action == "end"))
                running.remove(slot)
        assert [list(s.tokens[: s.length]) for s in cache.slots] == memory.held
        if shared:
            used = {int(c) for s in cache.slots for c in s.cells[: s.length]}
            assert cache.free == cells - len(used)
    for slot in running:
        memory.apply(cache.release(slot, keep=False))
    memory.apply(cache.make_room(cells) if shared else [])
    assert cache.free == cells or not shared


def filled(cache: KvCache, memory: Memory, prompts: list[np.ndarray[tuple[int], np.dtype[np.int32]]]) -> list[int]:
    """Place these prompts; their slots."""
    slots = []
    for prompt in prompts:
        placed = cache.place(prompt)
        assert placed is not None
        memory.apply(placed.ops)
        cache.extend(placed.slot, prompt[placed.reused :])
        memory.held[placed.slot] += list(prompt[placed.reused :])
        slots.append(placed.slot)
    return slots


def test_streams_run_side_by_side_and_long_prefixes_survive_it() -> None:
    cache, memory = KvCache(8, 8 * 512, shared=False, reuse=True), Memory(8)
    prompts = [np.full(200, number, np.int32) for number in range(6)]
    assert filled(cache, memory, prompts[:4]) == [0, 1, 2, 3]
    for slot in (1, 2):
        memory.apply(cache.release(slot, keep=True))
    # An empty place beside a running one is the best; what the others keep stays where it is.
    assert filled(cache, memory, prompts[4:5]) == [4]
    # Gaps that stay open are closed by the last ones that run, and nothing kept is lost.
    moves = []
    while cache.has_gap():
        source, target, ops = cache.close_gap()
        memory.apply(ops)
        moves.append((source, target))
    assert moves == [(4, 1), (3, 2)]
    for prompt in prompts[:5]:
        assert cache.match(np.append(prompt, 7))[1] == 200
    assert [list(s.tokens[: s.length]) for s in cache.slots] == memory.held


def test_a_prefix_that_stands_apart_is_brought_to_the_running_answers() -> None:
    cache, memory = KvCache(8, 8 * 512, shared=False, reuse=True), Memory(8)
    prompts = [np.full(200, number, np.int32) for number in range(6)]
    filled(cache, memory, prompts)
    for slot in range(1, 6):
        memory.apply(cache.release(slot, keep=True))
    again = cache.place(np.append(prompts[4], 99))
    assert again is not None
    assert (again.slot, again.reused) == (1, 200)
    memory.apply(again.ops)
    assert memory.held[1] == list(prompts[4])
    assert cache.match(np.append(prompts[1], 7))[1] == 200


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_beginning_is_copied_from_a_running_answer(shared: bool) -> None:
    cache = KvCache(3, 900, shared=shared, reuse=True)
    first = cache.place(prefix(100, 1))
    assert first is not None
    cache.extend(first.slot, prefix(100, 1))
    second = cache.place(prefix(100, 2))
    assert second is not None
    assert second.reused == 100
    assert second.ops == (Copy(first.slot, second.slot, 100),)
    if shared:
        assert cache.free == 900 - 108


def test_short_beginnings_and_whole_prompts_are_not_reused() -> None:
    cache = KvCache(2, 512, shared=True, reuse=True)
    first = cache.place(prefix(100, 1))
    assert first is not None
    cache.extend(first.slot, prefix(100, 1))
    cache.release(first.slot, keep=True)
    assert cache.match(prefix(MIN_REUSE - 1, 7))[1] == 0
    assert cache.match(prefix(100, 1))[1] == 107


def test_a_memory_that_cannot_be_cut_reuses_nothing() -> None:
    cache = KvCache(2, 512, shared=False, reuse=False)
    first = cache.place(prefix(100, 1))
    assert first is not None
    cache.extend(first.slot, prefix(100, 1))
    cache.release(first.slot, keep=True)
    again = cache.place(prefix(100, 1))
    assert again is not None
    assert again.reused == 0
