"""A whole vocabulary as candidates, of which mostly few are likely: those get exact weights, the rest a common bound.

Weights are exp((logit - largest) / temperature). Drawing is exact all the same: a draw that falls under the bound picks
one of the rest at random and keeps it as often as its own weight says, or starts again (rejection sampling, rarely more
than once). Exponentials of a whole vocabulary are taken only where many tokens are likely.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.generation.draw import Desk, pick, pick_nucleus

Indices = npt.NDArray[np.intp]
SPARE = 0.1
"""Most that the bound of the rest may weigh, all together; the largest logit weighs 1."""
MANY = 8
"""One of so many tokens being likely is too many to single out."""


class Crowd:
    """Candidates with logits `scores` (vocab,), the largest of which is `peak`, at temperature `heat`."""

    def __init__(self, scores: Floats, peak: np.float32, heat: np.float32, desk: Desk) -> None:
        self._scores = scores
        self._peak = peak
        self._heat = heat
        self._desk = desk

    def pick(self, rng: np.random.Generator) -> int:
        """A token with probability proportional to its weight."""
        bound = SPARE / self._scores.size
        floor = self._floor(bound)
        ids = self._above(floor)
        if ids is None:
            return pick(self._all(), rng)
        sums = np.cumsum(self._weights(ids), dtype=np.float64)
        while True:
            point = rng.random() * (sums[-1] + SPARE)
            if point < sums[-1]:
                return int(ids[np.searchsorted(sums, point, "right")])
            token = int(rng.integers(self._scores.size))
            score = self._scores[token]
            if score <= floor and rng.random() * bound < math.exp((score - self._peak) / self._heat):
                return token

    def pick_nucleus(self, share: float, rng: np.random.Generator) -> int:
        """As `pick`, among the fewest best tokens that hold `share` of the whole weight: all of them likely ones."""
        spare = min(SPARE, (1.0 - share) / max(share, SPARE))
        ids = self._above(self._floor(spare / self._scores.size))
        if ids is None:
            weights = self._all()
            mass = share * float(weights.sum())
            return pick_nucleus(weights, lambda before: before >= mass, rng)
        weights = self._weights(ids)
        low = share * float(weights.sum())
        high = low + share * spare

        def reached(before: float) -> bool:
            nonlocal low, high
            if low <= before < high:
                low = high = share * float(self._all().sum())
            return before >= low

        return int(ids[pick_nucleus(weights, reached, rng)])

    def _floor(self, bound: float) -> np.float32:
        """The logit that weighs `bound`."""
        return self._peak + self._heat * np.float32(math.log(bound))

    def _above(self, floor: np.float32) -> Indices | None:
        """Tokens with logits above it; None when they are many."""
        mask = self._scores > floor
        if np.count_nonzero(mask) * MANY > self._scores.size:
            return None
        return np.flatnonzero(mask)

    def _weights(self, ids: Indices) -> Floats:
        weights: Floats = self._scores[ids]
        weights -= self._peak
        weights /= self._heat
        return np.exp(weights, out=weights)

    def _all(self) -> Floats:
        """Weights of all tokens, (padded vocab,), on the desk."""
        scaled = np.subtract(self._scores, self._peak, out=self._desk.scores)
        if self._heat != 1.0:
            scaled /= self._heat
        np.exp(scaled, out=scaled)
        return self._desk.padded
