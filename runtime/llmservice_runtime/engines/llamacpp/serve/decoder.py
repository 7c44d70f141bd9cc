"""One llama_decode over what runs."""

from __future__ import annotations

import time
from pathlib import Path

import llama_cpp
import numpy as np

from llmservice_runtime.batching.decoder import Decoder, NoRoomError, StepFailedError, Taken
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.engines.llamacpp.serve.adapters import Adapters
from llmservice_runtime.engines.llamacpp.serve.binding import Batch, Logits, recent_errors
from llmservice_runtime.engines.llamacpp.serve.model import LoadedModel
from llmservice_runtime.generation.arrays import Floats


class LlamaDecoder(Decoder):
    """Implements batching's Decoder on llama.cpp's context."""

    def __init__(self, loaded: LoadedModel, lanes: Lanes, step_seconds: float = 0.0) -> None:
        super().__init__(lanes, loaded.batch, step_seconds)
        self._loaded = loaded
        self._batch = Batch(loaded.batch)
        self._adapters = Adapters(loaded)
        vocab = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(loaded.model)))
        self._logits = Logits(loaded.context, loaded.outputs, vocab)

    def load_adapter(self, path: Path) -> int:
        """See Decoder."""
        return self._adapters.load(path)

    def free_adapter(self, adapter: int) -> None:
        """See Decoder."""
        self._adapters.free(adapter)

    def scores(self, rows: int) -> Floats:
        """See Decoder: llama.cpp's own memory."""
        return self._logits.rows(rows)

    def compute(self, taken: Taken) -> None:
        """See Decoder."""
        batch = self._batch
        n = 0
        for answer, tokens in taken:
            assert answer.slot is not None
            start, end = answer.fed, answer.fed + tokens
            if tokens == 1:
                batch.tokens[n] = answer.tokens[start]
                batch.positions[n] = start
                batch.slots[n] = answer.slot
                batch.outputs[n] = self.outputs(answer, 1)
            else:
                batch.tokens[n : n + tokens] = answer.tokens[start:end]
                batch.positions[n : n + tokens] = np.arange(start, end, dtype=np.int32)
                batch.slots[n : n + tokens] = answer.slot
                outputs = self.outputs(answer, tokens)
                batch.outputs[n : n + tokens] = outputs == tokens
                batch.outputs[n + tokens - 1] = outputs > 0
            n += tokens
        begin = time.perf_counter()
        self._adapters.use(taken[0][0].adapter)
        code = int(llama_cpp.llama_decode(self._loaded.context, batch.of(n)))
        if self._loaded.offloaded:  # without, the call itself computes
            llama_cpp.llama_synchronize(self._loaded.context)
        self.seconds += time.perf_counter() - begin
        if code == 1:
            raise NoRoomError
        if code:
            said = f": {recent_errors[-1]}" if recent_errors else ""
            raise StepFailedError(f"llama.cpp failed with {code}{said}")
