"""Steps of models whose attention can be ours: tokens of all answers go through the model as one row of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmservice_runtime.batching.decoder import Taken
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.engines.transformers.serve.passes import TorchDecoder, call
from llmservice_runtime.engines.transformers.serve.slots import Slots
from llmservice_runtime.engines.transformers.serve.step import make_step
from llmservice_runtime.generation.arrays import Floats


class PackedDecoder(TorchDecoder):
    """Implements batching's Decoder: `batch` tokens a step at most."""

    def __init__(self, model: Any, slots: Slots, lanes: Lanes, batch: int) -> None:
        super().__init__(model, lanes, batch)
        self._model = model
        self._slots = slots

    def arrange(self, taken: Taken) -> Taken:
        """Those that generate first, slots side by side."""
        return sorted(taken, key=lambda pair: (pair[1] > 1, pair[0].slot or 0))

    def passes(self, taken: Taken) -> Floats:
        """See TorchDecoder."""
        lanes: list[tuple[int, int, int]] = []
        wanted: list[int] = []
        row = 0
        for answer, tokens in taken:
            assert answer.slot is not None
            lanes.append((answer.slot, answer.fed, tokens))
            row += tokens
            wanted += range(row - self.outputs(answer, tokens), row)
        ids = np.concatenate([answer.tokens[answer.fed : answer.fed + tokens] for answer, tokens in taken])
        step = make_step(lanes, self._slots.capacity)
        self._slots.begin(step)
        return call(self._model, ids, step.positions, self._slots, wanted)[0]
