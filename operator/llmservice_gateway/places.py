"""How much a replica is given: what it computes together, and a little more, so that it never idles. Pure.

What waits in a replica's queue can't go to another one that is free by then, so it waits at the gateway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmservice_runtime.contract.bounds import batch_places

SPARE = 2
"""Requests that may wait at a replica: they are there when a place is, without a round trip."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica was planned for; 0 = not known, no bound. `spare` as SPARE, or less where it lets none wait."""

    sequences: int = 0
    kv_tokens: int = 0
    spare: int = SPARE

    @property
    def for_batch(self) -> Capacity:
        """What of it batch work may fill, together with all else that is there; none of it waits at a replica."""
        tokens = self.kv_tokens - self.kv_tokens // 4
        return Capacity(batch_places(self.sequences) if self.sequences else 0, tokens, 0)

    def part(self, share: float) -> Capacity:
        """This share of it (0 to 1), rounded up: each gateway has a place at least."""
        if share >= 1:
            return self
        return Capacity(*(math.ceil(amount * share - 1e-9) for amount in (self.sequences, self.kv_tokens, self.spare)))


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second that a replica measured when it was loaded; 0 = not known."""

    prompt: float = 0.0
    """Of one prompt, alone."""
    together: float = 0.0
    """Of all answers that it computes at a time."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a request, or all of a replica's, will take: sequences, and tokens in the KV cache."""

    sequences: int = 0
    tokens: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.sequences + other.sequences, self.tokens + other.tokens)

    def __sub__(self, other: Size) -> Size:
        return Size(self.sequences - other.sequences, self.tokens - other.tokens)


def has_room(capacity: Capacity, load: Size, own: Size, waiting: int = 0) -> bool:
    """Whether a replica with this load is given a request more. `waiting`: requests in its queue as it last said.

    An idle replica takes any; what makes no sequence needs no place. Where the engine's queue is longer than it is
    meant to be, others fill it (or the tokens were guessed too low): so much less is given.
    """
    if not load.sequences or not own.sequences:
        return True
    both = load + own
    together = capacity.sequences or both.sequences
    if capacity.kv_tokens and both.tokens:
        together = min(together, capacity.kv_tokens * both.sequences // both.tokens)
    return both.sequences <= together + capacity.spare - max(0, waiting - capacity.spare)
