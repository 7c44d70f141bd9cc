"""From logits to a token. NumPy on the rows that ask for more than the largest logit.

Order, as in vLLM: grammar mask, min_tokens, logit_bias, penalties, temperature, min_p, top_k, top_p.
Presence and frequency penalties count the answer's tokens; the repetition penalty looks at prompt and answer
(a positive logit is divided by it, a negative one multiplied).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from llmservice_runtime.llamacpp.binding import Floats, Ints
from llmservice_runtime.serving.engine import SamplingParams, TokenLogprob

BLOCK = 256
NEGLIGIBLE = 16.0
"""Logits this far below the largest (in units of temperature) are looked at by top_p only when it needs them."""

Mask = Callable[[], npt.NDArray[np.bool_] | None]
"""Allowed tokens now, (vocab,), or None = all."""


class Sampler:
    """Chooses the tokens of one answer; keeps its random state and counts across preemption."""

    def __init__(self, params: SamplingParams, index: int, prompt: Ints, vocab: int, end: Sequence[int]) -> None:
        self._params = params
        self._rng = np.random.Generator(np.random.PCG64(None if params.seed is None else [params.seed % 2**64, index]))
        self._bias_ids = np.fromiter((t for t in params.logit_bias if 0 <= t < vocab), np.intp)
        self._bias = np.array([params.logit_bias[int(t)] for t in self._bias_ids], np.float32)
        forbidden_early = [*params.stop_token_ids, *(() if params.ignore_eos else end)]
        self._early = np.array([t for t in forbidden_early if 0 <= t < vocab], np.intp)
        self._end = np.array(end, np.intp)
        self._counts: Floats | None = None
        self._seen: npt.NDArray[np.bool_] | None = None
        if params.presence_penalty or params.frequency_penalty:
            self._counts = np.zeros(vocab, np.float32)
        if params.repetition_penalty != 1.0:
            self._seen = np.zeros(vocab, np.bool_)
            self._seen[prompt] = True
        self._generated = 0
        self._weights: Floats = np.empty(vocab if params.temperature > 0 else 0, np.float32)
        """Scratch: a fresh array of a vocabulary costs more in page faults than the arithmetic on it."""

    @property
    def plain(self) -> bool:
        """True: the largest logit is the answer, so rows can be reduced together."""
        return (
            self._params.temperature <= 0
            and not self._bias_ids.size
            and self._counts is None
            and self._seen is None
            and self._params.grammar is None
            and (not self._early.size or self._generated >= self._params.min_tokens)
        )

    def accept(self, token: int) -> None:
        """The token is part of the answer now."""
        self._generated += 1
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True

    def choose(self, row: Floats, allowed: npt.NDArray[np.bool_] | None) -> int:
        """The next token from logits (vocab,), which stay as they are; `allowed` is a grammar's mask."""
        scores = self._edited(row, allowed)
        params = self._params
        if params.temperature <= 0 or params.top_k == 1:
            return int(scores.argmax())
        scaled = np.subtract(scores, scores.max(), out=self._weights)
        if params.temperature != 1.0:
            scaled /= np.float32(params.temperature)
        if params.top_k or params.top_p < 1.0 or params.min_p > 0.0:
            return self._narrow(scaled)
        return self._pick(np.exp(scaled, out=scaled))

    def _edited(self, row: Floats, allowed: npt.NDArray[np.bool_] | None) -> Floats:
        scores = row if allowed is None else np.where(allowed, row, np.float32(-np.inf))
        if self._early.size and self._generated < self._params.min_tokens:
            scores = scores.copy()
            scores[self._early] = -np.inf
        if self._bias_ids.size:
            scores = scores.copy()
            scores[self._bias_ids] += self._bias
        if self._seen is not None:
            penalty = np.float32(self._params.repetition_penalty)
            scores = np.where(self._seen, np.where(scores > 0, scores / penalty, scores * penalty), scores)
        if self._counts is not None:
            scores = scores - self._params.frequency_penalty * self._counts
            scores = scores - np.float32(self._params.presence_penalty) * (self._counts > 0)
        return scores.astype(np.float32, copy=False)

    def _pick(self, weights: Floats) -> int:
        """An index with probability proportional to its weight; sums by blocks, which is several times faster."""
        blocks = np.add.reduceat(weights, np.arange(0, weights.size, BLOCK))
        sums = np.cumsum(blocks, dtype=np.float64)
        point = self._rng.random() * sums[-1]
        block = min(int(np.searchsorted(sums, point, "right")), sums.size - 1)
        start = block * BLOCK
        inner = np.cumsum(weights[start : start + BLOCK], dtype=np.float64)
        rest = point - (sums[block] - inner[-1])
        at = start + min(int(np.searchsorted(inner, rest, "right")), inner.size - 1)
        return at if weights[at] > 0 else int(weights.argmax())

    def _narrow(self, scaled: Floats) -> int:
        """top_k, top_p and min_p over the candidates, best first (ties by token id); the best has `scaled` 0."""
        params = self._params
        total = float(np.exp(scaled).sum(dtype=np.float64))
        near = np.flatnonzero(scaled >= -NEGLIGIBLE)
        if params.top_k and near.size < params.top_k:
            near = np.flatnonzero(scaled > -np.inf)
        order = near[np.argsort(-scaled[near], kind="stable")]
        if params.top_k and order.size > params.top_k:
            order = order[: params.top_k]
            total = float(np.exp(scaled[order]).sum(dtype=np.float64))
        weights = np.exp(scaled[order])
        if not params.top_k and weights.sum(dtype=np.float64) < params.top_p * total:
            order = np.argsort(-scaled, kind="stable")
            weights = np.exp(scaled[order])
        if params.top_p < 1.0:
            before = np.cumsum(weights, dtype=np.float64) - weights
            keep = max(1, int((before < params.top_p * total).sum()))
            order, weights = order[:keep], weights[:keep]
        if params.min_p > 0.0:
            keep = max(1, int((weights >= params.min_p).sum()))
            order, weights = order[:keep], weights[:keep]
        return int(order[self._pick(weights)])


def logprob_of(row: Floats, token: int, top: int, pieces: Callable[[int], bytes]) -> TokenLogprob:
    """Log-probabilities of the model's own distribution at one position: the token's and the `top` best."""
    peak = row.max()
    total = float(peak) + float(np.log(np.exp(row - peak).sum(dtype=np.float64)))
    best: tuple[tuple[int, bytes, float], ...] = ()
    if top > 0:
        ids = np.argpartition(row, -top)[-top:] if top < row.size else np.arange(row.size)
        ids = ids[np.lexsort((ids, -row[ids]))]
        best = tuple((int(i), pieces(int(i)), float(row[i]) - total) for i in ids)
    return TokenLogprob(token, pieces(token), float(row[token]) - total, best)
