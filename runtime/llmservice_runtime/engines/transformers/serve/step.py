"""What one pass computes, as the attention of every layer needs it: which rows are whose, and at what positions. Pure.

Rows are tokens of all answers behind one another. Answers that generate come first, one row each, in the order of their
slots; then beginnings of prompts, each a chunk of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmservice_runtime.generation.arrays import Ints

WASTE = 2
"""Slots are computed together as long as that reads at most so many times what they hold..."""
SPARE = 2048
"""...or so many positions more: a pass of its own costs as much."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring slots with a row each: rows `row` and up belong to slots `slot` and up; `lengths` with that row."""

    row: int
    slot: int
    lengths: tuple[int, ...]

    @property
    def longest(self) -> int:
        return max(self.lengths)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows `row` to `row + tokens` continue the prompt in `slot`, of which `past` tokens are there."""

    row: int
    slot: int
    past: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """One pass. `places` says for each row where it is kept: slot * capacity + position."""

    positions: Ints
    places: Ints
    runs: tuple[Run, ...]
    chunks: tuple[Chunk, ...]

    @property
    def rows(self) -> int:
        return int(self.positions.size)


def make_step(lanes: Sequence[tuple[int, int, int]], capacity: int) -> Step:
    """`lanes`: (slot, past, tokens), those with one token first and in the order of their slots."""
    positions = [np.arange(past, past + tokens, dtype=np.int32) for _, past, tokens in lanes]
    places = [slot * capacity + where for (slot, _, _), where in zip(lanes, positions, strict=True)]
    runs: list[Run] = []
    chunks: list[Chunk] = []
    row = 0
    for slot, past, tokens in lanes:
        if tokens > 1:
            chunks.append(Chunk(row, slot, past, tokens))
        elif runs and not chunks and (longer := _longer(runs[-1], slot, past + 1)):
            runs[-1] = longer
        else:
            runs.append(Run(row, slot, (past + 1,)))
        row += tokens
    return Step(np.concatenate(positions), np.concatenate(places), tuple(runs), tuple(chunks))


def _longer(run: Run, slot: int, length: int) -> Run | None:
    """The run with one slot more; None when that is no neighbour, or of too different a length."""
    if slot != run.slot + len(run.lengths):
        return None
    lengths = (*run.lengths, length)
    together = len(lengths) * max(lengths)
    return Run(run.row, run.slot, lengths) if together <= WASTE * sum(lengths) + SPARE else None
