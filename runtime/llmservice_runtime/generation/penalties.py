"""What presence, frequency and repetition penalties take from the logits of tokens that occurred."""

from __future__ import annotations

import numpy as np

from llmservice_runtime.generation.arrays import Floats, Ints
from llmservice_runtime.protocol.engine import SamplingParams


class Penalties:
    """Counts the tokens of one answer. The repetition penalty looks at prompt and answer, the others at the answer.

    A positive logit is divided by the repetition penalty, a negative one multiplied (as the paper of CTRL has it).
    """

    def __init__(self, params: SamplingParams, prompt: Ints) -> None:
        self._repetition = np.float32(params.repetition_penalty)
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self.active = bool(params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0)
        known = np.unique(prompt) if params.repetition_penalty != 1.0 else np.empty(0, np.int32)
        self._places = {int(token): place for place, token in enumerate(known)}
        self._ids = np.resize(known, known.size + 64).astype(np.intp) if known.size else np.zeros(64, np.intp)
        self._lost: Floats = np.zeros(self._ids.size, np.float32)
        self._generated: set[int] = set()

    def accept(self, token: int) -> None:
        """The token is part of the answer now."""
        if not self.active:
            return
        place = self._places.setdefault(token, len(self._places))
        if place == self._ids.size:
            self._ids = np.resize(self._ids, 2 * place)
            self._lost = np.resize(self._lost, 2 * place)
            self._lost[place:] = 0.0
        self._ids[place] = token
        self._lost[place] += self._frequency + (0.0 if token in self._generated else self._presence)
        self._generated.add(token)

    def apply(self, scores: Floats) -> None:
        """Change logits (vocab,) in place."""
        n = len(self._places)
        ids = self._ids[:n]
        values = scores[ids]
        if self._repetition != 1.0:
            values = np.where(values > 0, values / self._repetition, values * self._repetition)
        scores[ids] = values - self._lost[:n]
