"""Where the pictures of a prompt are, and what the bookkeeping of the memory makes of them."""

from __future__ import annotations

import numpy as np

from llmservice_runtime.batching.kvcache import Copy, KvCache, Trim
from llmservice_runtime.engines.llamacpp.serve.eyes import tokens_of
from llmservice_runtime.engines.llamacpp.serve.sight import Part
from llmservice_runtime.generation.shown import Shown
from llmservice_runtime.protocol.pictures import Span


def span(start: int, tokens: int, advance: int = 0, whole: bool = False) -> Span:
    return Span(start, np.zeros((tokens, 4), np.float32), None, advance or tokens, whole)


def test_nothing_is_shown() -> None:
    shown = Shown()
    assert not shown and shown.at(3) is None and shown.position(7) == 7 and shown.fit(9) == 9
    assert shown.reach(5) > 1 << 40 and shown.whole(5, 3) == 3 and shown.saves_at(5) == 0


def test_text_and_pictures_go_apart() -> None:
    shown = Shown([span(5, 10), span(15, 4), span(30, 6)])
    assert [shown.reach(token) for token in (0, 4, 5, 14, 15, 19, 30, 35)] == [5, 1, 10, 1, 4, 11, 6, 1]
    assert shown.reach(36) > 1 << 40
    assert [shown.at(token) is not None for token in (4, 5, 14, 18, 19, 36)] == [False, True, True, True, False, False]


def test_positions_go_on_by_what_a_picture_advances() -> None:
    shown = Shown([span(5, 10, advance=3), span(20, 8, advance=2)])
    assert [shown.position(token) for token in (4, 5, 9, 15, 19, 20, 25, 28)] == [4, 5, 5, 8, 12, 13, 13, 15]
    assert [shown.saves_at(end) for end in (14, 15, 28, 29)] == [0, 7, 6, 0]


def test_a_beginning_ends_outside_of_pictures() -> None:
    shown = Shown([span(5, 10), span(20, 8)])
    assert [shown.fit(length) for length in (4, 5, 6, 14, 15, 21, 28, 40)] == [4, 5, 5, 5, 15, 20, 28, 40]


def test_a_picture_whose_tokens_see_each_other_goes_whole() -> None:
    shown = Shown([span(5, 10, whole=True), span(20, 8)])
    assert shown.whole(5, 1) == 10 and shown.whole(20, 3) == 3 and shown.whole(0, 2) == 2


def test_a_memory_is_cut_at_positions() -> None:
    kv = KvCache(3, 300, shared=True, reuse=True)
    prompt = np.arange(100, 160, dtype=np.int32)
    shown = Shown([span(5, 40, advance=4)])
    slot = kv.place(prompt)
    assert slot is not None
    kv.extend(slot.slot, prompt[:5])
    kv.extend(slot.slot, prompt[5:45], shown.saves_at(45))
    kv.extend(slot.slot, prompt[45:])
    other = np.concatenate([prompt[:50], np.arange(20, dtype=np.int32)])
    second = kv.place(other, fit=shown.fit)
    assert second is not None and second.reused == 50
    assert second.ops == (Copy(slot.slot, second.slot, 50, 36),)
    assert kv.trim(second.slot, 47) == [Trim(second.slot, 47, 36)]
    assert kv.trim(second.slot, 5) == [Trim(second.slot, 5, 0)]


def test_a_part_of_a_picture_is_never_taken_over() -> None:
    kv = KvCache(3, 300, shared=True, reuse=True)
    prompt = np.arange(100, 160, dtype=np.int32)
    slot = kv.place(prompt)
    assert slot is not None
    kv.extend(slot.slot, prompt[:40])  # and then its client was gone
    kv.release(slot.slot, keep=True)
    found = kv.place(prompt, fit=Shown([span(30, 20)]).fit)
    assert found is not None and found.reused == 30


def test_tokens_of_a_picture_tell_it_from_others() -> None:
    parts = (Part(tokens=(7, 8)), Part(chunk=1, count=50), Part(tokens=(9,)))
    first, again, other = (tokens_of(digest * 32, parts) for digest in (b"a", b"a", b"b"))
    assert first == again and first[:2] == [7, 8] and first[-1] == 9 and len(first) == 53
    assert all(-(2**31) <= token < 0 for token in first[2:-1])
    assert not set(first[2:-1]) & set(other[2:-1])
