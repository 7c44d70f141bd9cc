"""How many tokens the KV cache holds, and how they are spread over slots. Pure."""

from __future__ import annotations

from dataclasses import dataclass

PAD = 64
"""Contexts are rounded up to this."""
USUAL_TOKENS = 1024
"""Tokens per sequence when nobody says more: prompt and answer of a usual request."""
FULL_SHARE = 0.25
"""Part of the free memory that full contexts for every sequence may take before they share less."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`slots` of `capacity` tokens each, which hold at most `cells` together."""

    slots: int
    capacity: int
    cells: int

    @property
    def bounded(self) -> bool:
        return self.cells < self.slots * self.capacity


def choose_layout(
    *, context_tokens: int, sequences: int, kv_tokens: int, token_bytes: int, available: int, lazy: bool
) -> Layout:
    """`kv_tokens` 0 = ours to choose; `available` bytes are free. `lazy`: a slot takes only what it holds (a CPU)."""
    capacity = -(-context_tokens // PAD) * PAD
    full = capacity * sequences
    fits = full * token_bytes <= FULL_SHARE * available
    wanted = kv_tokens or (full if fits else sequences * min(USUAL_TOKENS, context_tokens))
    cells = min(full, max(capacity, wanted))
    if lazy:
        return Layout(sequences, capacity, cells)
    slots = max(1, min(sequences, cells // capacity))
    return Layout(slots, capacity, slots * capacity)
