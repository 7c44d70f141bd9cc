"""What a pass computes, how memory is laid out, what bytes tokens stand for: the parts that need no PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.engines.transformers.serve.layout import choose_layout
from llmservice_runtime.engines.transformers.serve.pieces import byte_alphabet, spelling
from llmservice_runtime.engines.transformers.serve.step import SPARE, WASTE, make_step

CAPACITY = 4096


@given(
    st.sets(st.integers(0, 40), max_size=12).flatmap(
        lambda slots: st.tuples(
            st.just(sorted(slots)),
            st.lists(st.integers(0, 3000), min_size=len(slots), max_size=len(slots)),
            st.lists(st.tuples(st.integers(0, 500), st.integers(2, 300)), min_size=not slots, max_size=4),
        )
    )
)
def test_every_row_is_attended_to_once_and_kept_in_its_own_place(
    drawn: tuple[list[int], list[int], list[tuple[int, int]]],
) -> None:
    slots, depths, prompts = drawn
    lanes = [(slot, past, 1) for slot, past in zip(slots, depths, strict=True)]
    lanes += [(50 + n, past, tokens) for n, (past, tokens) in enumerate(prompts)]
    step = make_step(lanes, CAPACITY)
    rows = [run.row + n for run in step.runs for n in range(len(run.lengths))]
    rows += [chunk.row + n for chunk in step.chunks for n in range(chunk.tokens)]
    assert rows == list(range(step.rows)) and step.rows == sum(tokens for _, _, tokens in lanes)
    assert np.unique(step.places).size == step.rows
    assert (step.places % CAPACITY == step.positions).all()
    for run in step.runs:
        for n, length in enumerate(run.lengths):
            assert step.places[run.row + n] == (run.slot + n) * CAPACITY + length - 1
        assert len(run.lengths) * run.longest <= WASTE * sum(run.lengths) + max(SPARE, run.longest)


def test_a_short_answer_is_not_computed_over_the_length_of_a_long_one() -> None:
    lanes = [(0, 4000, 1), *((slot, 30, 1) for slot in range(1, 16))]
    assert [len(run.lengths) for run in make_step(lanes, CAPACITY).runs] == [2, 14]
    alike = [(slot, 100 + slot, 1) for slot in range(16)]
    assert [len(run.lengths) for run in make_step(alike, CAPACITY).runs] == [16]


def test_what_is_free_decides_how_much_is_kept() -> None:
    told = {"context_tokens": 1000, "sequences": 16, "token_bytes": 1000}
    roomy = choose_layout(**told, kv_tokens=0, available=1 << 30, lazy=True)
    assert (roomy.slots, roomy.capacity, roomy.cells, roomy.bounded) == (16, 1024, 16 * 1024, False)
    tight = choose_layout(**told, kv_tokens=5000, available=1 << 30, lazy=True)
    assert (tight.slots, tight.cells, tight.bounded) == (16, 5000, True)
    gpu = choose_layout(**told, kv_tokens=5000, available=1 << 30, lazy=False)
    assert (gpu.slots, gpu.cells, gpu.bounded) == (4, 4096, False)
    least = choose_layout(**told, kv_tokens=10, available=0, lazy=True)
    assert least.cells == 1024, "one request of a whole context fits"


@pytest.mark.parametrize(
    ("decoder", "token", "text"),
    [
        ({"type": "ByteLevel"}, "ĠParis", b" Paris"),
        ({"type": "ByteLevel"}, "Ã©", "é".encode()),
        ({"type": "ByteLevel"}, "▁", "▁".encode()),
        ({"type": "Sequence", "decoders": [{"type": "ByteLevel"}]}, "Ċ", b"\n"),
        ({"type": "Metaspace", "replacement": "▁"}, "▁of", b" of"),
        (
            {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                ],
            },
            "<0xE2>",
            b"\xe2",
        ),
        ({"type": "WordPiece", "prefix": "##"}, "##ing", b"ing"),
        ({"type": "WordPiece", "prefix": "##"}, "sing", b" sing"),
        (None, "word", b"word"),
    ],
)
def test_a_token_is_its_bytes(decoder: dict[str, object] | None, token: str, text: bytes) -> None:
    assert spelling(decoder)(token) == text


def test_every_byte_has_a_sign_of_its_own() -> None:
    assert sorted(byte_alphabet().values()) == list(range(256))
