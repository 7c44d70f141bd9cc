"""Steps of models whose attention can be ours: tokens of all answers go through the model as one row of tokens."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from llmservice_runtime.batching.decoder import Decoder, NoRoomError, StepFailedError, Taken
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.engines.transformers.serve.slots import Slots
from llmservice_runtime.engines.transformers.serve.step import Step, make_step
from llmservice_runtime.generation.arrays import Floats


class PackedDecoder(Decoder):
    """Implements batching's Decoder: `batch` tokens a step at most."""

    def __init__(self, model: Any, slots: Slots, lanes: Lanes, batch: int) -> None:
        super().__init__(lanes, batch)
        self._model = model
        self._slots = slots
        self._scores: Floats = np.empty((0, 0), np.float32)

    def arrange(self, taken: Taken) -> Taken:
        """Those that generate first, slots side by side."""
        return sorted(taken, key=lambda pair: (pair[1] > 1, pair[0].slot or 0))

    def compute(self, taken: Taken) -> None:
        """See Decoder."""
        lanes = []
        wanted: list[int] = []
        row = 0
        for answer, tokens in taken:
            assert answer.slot is not None
            lanes.append((answer.slot, answer.fed, tokens))
            outputs = self.outputs(answer, tokens)
            wanted += range(row + tokens - outputs, row + tokens)
            row += tokens
        ids = np.concatenate([answer.tokens[answer.fed : answer.fed + tokens] for answer, tokens in taken])
        begin = time.perf_counter()
        try:
            self._scores = forward(self._model, self._slots, ids, make_step(lanes, self._slots.capacity), wanted)
        except torch.OutOfMemoryError as error:
            raise NoRoomError from error
        except (RuntimeError, IndexError, MemoryError) as error:
            raise StepFailedError(
                f"the model failed: {str(error).splitlines()[0] if str(error) else error!r}"
            ) from error
        finally:
            self.seconds += time.perf_counter() - begin

    def scores(self, rows: int) -> Floats:
        """See Decoder."""
        return self._scores


def forward(model: Any, slots: Slots, ids: Any, step: Step, wanted: list[int]) -> Floats:
    """One pass over token ids (rows,); logits of the rows `wanted`, (len(wanted), vocab) float32."""
    device = model.device
    slots.begin(step)
    with torch.inference_mode():
        out = model(
            input_ids=torch.from_numpy(ids).to(device, torch.int64).unsqueeze(0),
            position_ids=torch.from_numpy(step.positions).to(device, torch.int64).unsqueeze(0),
            cache=slots,
            use_cache=True,
            # The last row where none is wanted: a model gives at least one.
            logits_to_keep=torch.tensor(wanted or [step.rows - 1], device=device),
        )
        logits: Floats = out.logits[0].float().cpu().numpy()
    return logits
