"""Drawing a token from weights without sorting a vocabulary. Pure NumPy on float32.

Sums of whole vocabularies are matrix products (several times faster than a cumulative sum). The k best are found
among few: the largest of each of 512 groups bound them from below. A nucleus (top_p) is drawn from by rejection, as
FlashInfer does it on GPUs: draw from everything, look at the mass before the drawn token, and on a miss forget it and
all behind it, which leaves the distribution within the nucleus as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from llmservice_runtime.generation.arrays import Floats

BLOCK = 256
GROUPS = 512
SMALL = 4096
"""Up to so many weights are summed one by one."""
_ONES: Floats = np.ones(BLOCK, np.float32)


class Desk:
    """An array as long as a vocabulary, used again for every token by one thread.

    A fresh one costs more in page faults than the arithmetic on it. `scores` (vocab,) is the front of `padded`, whose
    rest stays 0.
    """

    def __init__(self, vocab: int) -> None:
        self.padded: Floats = np.zeros(-(-vocab // BLOCK) * BLOCK, np.float32)
        self.scores: Floats = self.padded[:vocab]


def largest(values: Floats, k: int) -> npt.NDArray[np.intp]:
    """Indices of the `k` largest values, best first; equal ones by index, lowest first."""
    width = values.size - values.size % GROUPS
    if k >= values.size:
        near = np.arange(values.size)
    elif k <= GROUPS // 4 and width:
        tops = values[:width].reshape(-1, GROUPS).max(axis=0)
        tops.sort()
        near = np.flatnonzero(values >= tops[-k])
    else:
        near = np.flatnonzero(values >= np.partition(values, -k)[-k])
    return near[np.argsort(-values[near], kind="stable")[:k]]


def pick(weights: Floats, rng: np.random.Generator) -> int:
    """An index with probability proportional to its weight; at least one weight is above 0."""
    if weights.size <= SMALL or weights.size % BLOCK:
        start, inner, point = 0, np.cumsum(weights, dtype=np.float64), rng.random()
        rest = point * inner[-1]
    else:
        sums = np.cumsum(weights.reshape(-1, BLOCK) @ _ONES, dtype=np.float64)
        point = rng.random() * sums[-1]
        block = min(int(np.searchsorted(sums, point, "right")), sums.size - 1)
        start = block * BLOCK
        inner = np.cumsum(weights[start : start + BLOCK], dtype=np.float64)
        rest = point - (sums[block - 1] if block else 0.0)
    at = start + min(int(np.searchsorted(inner, rest, "right")), inner.size - 1)
    return at if weights[at] > 0 else int(weights.argmax())


def pick_nucleus(weights: Floats, reached: Callable[[float], bool], rng: np.random.Generator) -> int:
    """As `pick`, among the fewest best indices whose mass `reached` says is enough, equal ones by index.

    Changes `weights`.
    """
    while True:
        at = pick(weights, rng)
        better = (weights > weights[at]).astype(np.float32)
        better[:at] += weights[:at] == weights[at]
        before = float(weights @ better)
        if before == 0.0 or not reached(before):
            return at
        weights *= better
