"""How the KV memory is laid out: a stream per sequence, or one pool for all. Pure."""

from __future__ import annotations

from dataclasses import dataclass

PAD = 256
"""llama.cpp rounds contexts to this."""
USUAL_TOKENS = 1024
"""Pool per sequence when nobody says more: prompt and answer of a usual request."""
SPLIT_SHARE = 0.25
"""Part of the free memory that full contexts for every sequence may take before one pool is shared instead."""
MAX_SLOTS = 256
IDLE_CELLS = 8192
"""Idle prefixes kept in a shared pool: every step looks at each cell (8,192: some 20 % at 16 sequences on a CPU)."""


@dataclass(frozen=True, slots=True)
class KvShape:
    """Bytes of one token's keys and values, all layers, and what this model's memory can do."""

    token_bytes: int
    can_share: bool
    """False: recurrent, hybrid and sliding-window memories, which can't be cut or shared at any position."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`slots` sequences; `cells` in all. Split: each has `cells / slots` of its own."""

    split: bool
    slots: int
    cells: int
    reuse: bool

    @property
    def idle_cells(self) -> int:
        """Most cells of idle prefixes."""
        return self.cells if self.split else min(IDLE_CELLS, self.cells // 2)


def pad(tokens: int) -> int:
    """Rounded up as llama.cpp does."""
    return -(-tokens // PAD) * PAD


def choose_layout(
    shape: KvShape, *, wanted: str, context_tokens: int, sequences: int, kv_tokens: int, available: int
) -> Layout:
    """`wanted`: auto, split or unified; `kv_tokens` 0 = ours to choose; `available` bytes of free memory.

    Split streams are the fastest on a CPU (attention reads its own sequence only); a shared pool needs less memory.
    """
    full = pad(context_tokens) * sequences
    fits = kv_tokens >= full if kv_tokens else full * shape.token_bytes <= SPLIT_SHARE * available
    if wanted == "split" or (wanted == "auto" and (fits or sequences == 1 or not shape.can_share)):
        return Layout(True, sequences, full, shape.can_share)
    cells = pad(max(context_tokens, kv_tokens or sequences * min(USUAL_TOKENS, context_tokens)))
    slots = min(MAX_SLOTS, 2 * sequences) if shape.can_share else sequences
    return Layout(False, slots, cells, shape.can_share)
