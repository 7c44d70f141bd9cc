"""One pass of a model of Transformers, and the step around it: its time, and what its errors mean."""

from __future__ import annotations

import inspect
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache as remembered
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmservice_runtime.batching.decoder import Decoder, NoRoomError, StepFailedError, Taken
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.engines.transformers.serve.adapters import Adapters, Parts
from llmservice_runtime.generation.arrays import Floats, Ints


class TorchDecoder(Decoder):
    """A Decoder on PyTorch: what differs is how a step's answers go through the model."""

    repeatable = True
    """Whether a step that ended in the middle may be computed again."""

    def __init__(self, model: Any, lanes: Lanes, batch: int) -> None:
        super().__init__(lanes, batch)
        self._adapters = Adapters(model)
        self._scores: Floats = np.empty((0, 0), np.float32)

    @abstractmethod
    def passes(self, taken: Taken) -> Floats:
        """Compute these tokens; the logits that are wanted, (rows, vocab), in the order of `taken`."""

    def compute(self, taken: Taken) -> None:
        """See Decoder."""
        begin = time.perf_counter()
        try:
            self._adapters.use(taken[0][0].adapter)
            self._scores = self.passes(taken)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise (NoRoomError() if self.repeatable else StepFailedError("memory ran out")) from error
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), repr(error))
            raise StepFailedError(f"the model failed: {reason}") from error
        finally:
            self.seconds += time.perf_counter() - begin

    def read_adapter(self, path: Path) -> AbstractContextManager[Parts]:
        """See Decoder."""
        return self._adapters.reading(path)

    def load_adapter(self, read: Parts) -> int:
        """See Decoder."""
        return self._adapters.add(read)

    def free_adapter(self, adapter: int) -> None:
        """See Decoder."""
        self._adapters.free(adapter)

    def scores(self, rows: int) -> Floats:
        """See Decoder."""
        return self._scores


def call(model: Any, ids: Ints, positions: Ints, cache: Any, wanted: list[int]) -> tuple[Floats, Any]:
    """A pass over token ids (rows,) at `positions`; logits of the rows `wanted` as float32, and the cache after it.

    A model gives one row of logits at least: where none is wanted, the last one's.
    """
    device = model.device
    takes = parameters(type(model).forward)
    rows = torch.tensor(wanted or [len(ids) - 1], device=device)
    given: dict[str, Any] = {"cache": cache} if cache is not None else {}
    if "position_ids" in takes:
        given["position_ids"] = torch.from_numpy(positions).to(device, torch.int64).unsqueeze(0)
    if "logits_to_keep" in takes:
        given["logits_to_keep"] = rows
    with torch.inference_mode():
        tokens = torch.from_numpy(np.ascontiguousarray(ids)).to(device, torch.int64).unsqueeze(0)
        out = model(input_ids=tokens, use_cache=True, **given)
        logits = out.logits[0] if "logits_to_keep" in takes else out.logits[0, rows]
        found: Floats = logits.float().cpu().numpy()
    return found, out.get("cache", None)


@remembered
def parameters(forward: Callable[..., Any]) -> frozenset[str]:
    """What it takes by name."""
    return frozenset(inspect.signature(forward).parameters)
