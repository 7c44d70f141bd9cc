"""From logits to a token. NumPy on the rows that ask for more than the largest logit.

Order, as in vLLM: grammar mask, min_tokens, logit_bias, penalties, temperature, min_p, top_k, top_p.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from llmservice_runtime.generation.arrays import Floats, Ints
from llmservice_runtime.generation.crowd import Crowd
from llmservice_runtime.generation.draw import Desk, largest, pick, pick_nucleus
from llmservice_runtime.generation.penalties import Penalties
from llmservice_runtime.protocol.engine import SamplingParams, TokenLogprob

COLD = 1e-5
"""Temperatures below this are greedy, as in vLLM: the division would leave float32's range."""


class NoTokenError(ValueError):
    """No token can be chosen; the message says why."""


class Sampler:
    """Chooses the tokens of one answer; keeps its random state and counts across preemption."""

    def __init__(self, params: SamplingParams, index: int, prompt: Ints, vocab: int, end: Sequence[int]) -> None:
        self._params = params
        self._greedy = params.temperature < COLD or params.top_k == 1
        self._rng = np.random.Generator(np.random.PCG64(None if params.seed is None else [params.seed % 2**64, index]))
        self._bias_ids = np.fromiter((t for t in params.logit_bias if 0 <= t < vocab), np.intp)
        self._bias = np.array([params.logit_bias[int(t)] for t in self._bias_ids], np.float32)
        forbidden_early = [*params.stop_token_ids, *(() if params.ignore_eos else end)]
        self._early = np.array([t for t in forbidden_early if 0 <= t < vocab], np.intp)
        self._penalties = Penalties(params, prompt)
        self._generated = 0
        edited = bool(self._bias_ids.size) or self._penalties.active
        self._bare = self._greedy and params.grammar is None and not edited
        """The largest logit is the answer, as soon as no token is too early."""

    @property
    def plain(self) -> bool:
        """True: the largest logit is the answer, so rows can be reduced together."""
        return self._bare and not self._too_early()

    def accept(self, token: int) -> None:
        """The token is part of the answer now."""
        self._generated += 1
        if self._penalties.active:
            self._penalties.accept(token)

    def choose(self, row: Floats, barrier: Floats | None, desk: Desk) -> int:
        """The next token from logits (vocab,), which stay as they are; NoTokenError when there is none.

        `barrier` is a grammar's mask: 0 for what may come, -inf for the rest.
        """
        scores = self._edited(row, barrier, desk.scores)
        best = int(scores.argmax())
        peak = scores[best]
        if not np.isfinite(peak):
            return self._without_peak(peak, barrier)
        if self._greedy:
            return best
        if self._params.top_k or self._params.min_p > 0.0:
            return self._among_few(scores, peak)
        share = self._params.top_p
        heat = np.float32(self._params.temperature)
        crowd = Crowd(scores, peak, heat, desk)
        return crowd.pick(self._rng) if share >= 1.0 else crowd.pick_nucleus(share, self._rng)

    def _too_early(self) -> bool:
        return self._generated < self._params.min_tokens and bool(self._early.size)

    def _edits(self) -> bool:
        return self._too_early() or bool(self._bias_ids.size) or self._penalties.active

    def _edited(self, row: Floats, barrier: Floats | None, out: Floats) -> Floats:
        if barrier is not None:
            scores = np.add(row, barrier, out=out)
        elif self._edits():
            scores = out
            scores[:] = row
        else:
            return row
        if self._too_early():
            scores[self._early] = -np.inf
        if self._bias_ids.size:
            scores[self._bias_ids] += self._bias
        if self._penalties.active:
            self._penalties.apply(scores)
        return scores

    def _without_peak(self, peak: np.float32, barrier: Floats | None) -> int:
        """A grammar that wants the end goes before min_tokens."""
        if peak != -np.inf:
            raise NoTokenError("the model computed logits that are no numbers")
        if barrier is not None and self._too_early():
            ends = self._early[barrier[self._early] == 0]
            if ends.size:
                return int(ends[0])
        raise NoTokenError("no token is allowed here")

    def _among_few(self, scores: Floats, peak: np.float32) -> int:
        """min_p or top_k leave few tokens, and top_p fewer."""
        params = self._params
        heat = np.float32(params.temperature)
        floor = peak + heat * np.float32(math.log(params.min_p)) if params.min_p > 0.0 else -np.inf
        if params.top_k:
            ids = largest(scores, params.top_k)
            ids = ids[scores[ids] >= floor]
        else:
            ids = np.flatnonzero(scores >= floor)
        weights = np.exp((scores[ids] - peak) / heat)
        if params.top_p < 1.0:
            mass = params.top_p * float(weights.sum())
            return int(ids[pick_nucleus(weights, lambda before: before >= mass, self._rng)])
        return int(ids[pick(weights, self._rng)])


def logprob_of(row: Floats, token: int, top: int, pieces: Callable[[int], bytes]) -> TokenLogprob:
    """Log-probabilities of the model's own distribution at one position: the token's and the `top` best."""
    peak = row.max()
    total = float(peak) + float(np.log(np.exp(row - peak).sum(dtype=np.float64)))
    ids = largest(row, top) if top > 0 else ()
    best = tuple((int(i), pieces(int(i)), float(row[i]) - total) for i in ids)
    return TokenLogprob(token, pieces(token), float(row[token]) - total, best)
