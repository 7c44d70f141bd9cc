"""Steps of models whose attention can't be ours, or that have none: each answer has a cache of the model's own kind.

Answers go through the model one after the other. That is slow, and right for every architecture.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from llmservice_runtime.batching.decoder import Taken
from llmservice_runtime.batching.kvcache import Op, Trim
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.engines.transformers.serve.passes import TorchDecoder, call
from llmservice_runtime.generation.arrays import Floats, Ints


class Caches:
    """The caches of all slots; None = empty. Implements batching's Memory for a model whose memory can't be shared."""

    def __init__(self, slots: int) -> None:
        self.kept: list[Any] = [None] * slots

    def apply(self, ops: Iterable[Op]) -> None:
        """See batching's Memory."""
        for op in ops:
            if not isinstance(op, Trim) or op.length:
                raise RuntimeError(f"this model's memory can't be cut or shared: {op}")
            self.kept[op.slot] = None

    def clear(self) -> None:
        """See batching's Memory."""
        self.kept = [None] * len(self.kept)


class AloneDecoder(TorchDecoder):
    """Implements batching's Decoder. `chunks` False: the model continues a text by one token at a time only."""

    repeatable = False

    def __init__(self, model: Any, caches: Caches, lanes: Lanes, batch: int, *, chunks: bool) -> None:
        super().__init__(model, lanes, batch)
        self._model = model
        self._caches = caches
        self._chunks = chunks

    def passes(self, taken: Taken) -> Floats:
        """See TorchDecoder."""
        rows: list[Floats] = []
        for answer, tokens in taken:
            assert answer.slot is not None
            ids, outputs = answer.tokens[answer.fed : answer.fed + tokens], self.outputs(answer, tokens)
            cache = self._caches.kept[answer.slot] if answer.fed else None
            logits, cache = advance(self._model, cache, ids, answer.fed, outputs, chunks=self._chunks)
            self._caches.kept[answer.slot] = cache
            if outputs:
                rows.append(logits)
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)


def advance(model: Any, cache: Any, ids: Ints, past: int, outputs: int, *, chunks: bool = True) -> tuple[Floats, Any]:
    """Continue one text by `ids`; the logits of its last `outputs` tokens, and its cache now."""
    parts = [ids] if chunks or not past else [ids[at : at + 1] for at in range(len(ids))]
    found: list[Floats] = []
    for part in parts:
        wanted = outputs if len(parts) == 1 else 1
        where = np.arange(past, past + len(part), dtype=np.int32)
        logits, cache = call(model, part, where, cache, list(range(len(part) - max(wanted, 1), len(part))))
        found.append(logits)
        past += len(part)
    return np.concatenate(found)[-max(outputs, 1) :], cache
