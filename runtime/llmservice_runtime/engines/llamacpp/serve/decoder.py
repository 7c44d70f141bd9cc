"""One llama_decode over what runs."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from llmservice_runtime.batching.decoder import Decoder, HaltedError, NoRoomError, StepFailedError, Taken
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.engines.llamacpp.serve.adapters import Adapters
from llmservice_runtime.engines.llamacpp.serve.binding import Batch, Logits, Vectors, recent_errors
from llmservice_runtime.engines.llamacpp.serve.halt import ABORTED, Halt
from llmservice_runtime.engines.llamacpp.serve.model import LoadedModel
from llmservice_runtime.generation.answers import Answer
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
        self._halt = Halt(loaded.context) if loaded.layout.reuse and not loaded.offloaded else None
        """None: what a step computed can't be taken back, or is on a GPU, which is not asked."""
        if self._halt is not None:
            self.halt, self.go_on = self._halt.now, self._halt.clear

    def read_adapter(self, path: Path) -> AbstractContextManager[Path]:
        """See Decoder: PEFT's files are converted."""
        return self._adapters.file(path)

    def load_adapter(self, read: Path) -> int:
        """See Decoder."""
        return self._adapters.load(read)

    def free_adapter(self, adapter: int) -> None:
        """See Decoder."""
        self._adapters.free(adapter)

    def scores(self, rows: int) -> Floats:
        """See Decoder: llama.cpp's own memory."""
        return self._logits.rows(rows)

    def compute(self, taken: Taken) -> None:
        """See Decoder. Pictures go first, each by itself: a batch has tokens or vectors, and its logits are kept."""
        self._adapters.use(taken[0][0].adapter)
        pictures = [pair for pair in taken if pair[0].shown.at(pair[0].fed)]
        for number, (answer, tokens) in enumerate(pictures):
            try:
                self._show(answer, tokens)
            except NoRoomError:
                self._forget(pictures[:number])
                raise
        text = [pair for pair in taken if pair not in pictures] if pictures else taken
        if not text:
            return
        batch = self._batch.of(self._fill(text))
        try:
            if self._halt is not None and not pictures and all(answer.batch for answer, _ in text):
                with self._halt:
                    self._decode(batch, self._halt)
            else:
                self._decode(batch)
        except NoRoomError:
            self._forget(pictures)
            raise
        except HaltedError:
            self._take_back(text)
            raise

    def _take_back(self, taken: Taken) -> None:
        """What a step that was halted had computed before."""
        memory = llama_cpp.llama_get_memory(self._loaded.context)
        for answer, _ in taken:
            if not llama_cpp.llama_memory_seq_rm(memory, answer.slot, answer.shown.position(answer.fed) or -1, -1):
                raise StepFailedError("llama.cpp can't take back a step")

    def _fill(self, taken: Taken) -> int:
        """Write text into the batch; how many tokens."""
        batch = self._batch
        n = 0
        for answer, tokens in taken:
            assert answer.slot is not None
            start, end = answer.fed, answer.fed + tokens
            position = answer.shown.position(start)
            if tokens == 1:
                batch.tokens[n] = answer.tokens[start]
                batch.positions[n] = position
                batch.slots[n] = answer.slot
                batch.outputs[n] = self.outputs(answer, 1)
            else:
                batch.tokens[n : n + tokens] = answer.tokens[start:end]
                batch.positions[n : n + tokens] = np.arange(position, position + tokens, dtype=np.int32)
                batch.slots[n : n + tokens] = answer.slot
                outputs = self.outputs(answer, tokens)
                batch.outputs[n : n + tokens] = outputs == tokens
                batch.outputs[n + tokens - 1] = outputs > 0
            n += tokens
        return n

    def _show(self, answer: Answer, tokens: int) -> None:
        """Compute so many tokens of the picture that is an answer's next."""
        span = answer.shown.at(answer.fed)
        assert span is not None and answer.slot is not None
        first, position = answer.fed - span.start, answer.shown.position(answer.fed)
        part = slice(first, first + tokens)
        if span.places is None:
            places = np.arange(position + first, position + first + tokens, dtype=np.int32)
        else:
            places = span.places[:, part] + np.int32(position)
        batch = Vectors(span.vectors[part], places, answer.slot)
        if not span.whole:
            return self._decode(batch.struct)
        llama_cpp.llama_set_causal_attn(self._loaded.context, False)
        try:
            self._decode(batch.struct)
        finally:
            llama_cpp.llama_set_causal_attn(self._loaded.context, True)

    def _forget(self, pictures: Taken) -> None:
        """Take back what a step that found no room had computed."""
        memory = llama_cpp.llama_get_memory(self._loaded.context)
        for answer, _ in pictures:
            span = answer.shown.at(answer.fed)
            assert span is not None
            first = answer.fed - span.start
            # In several dimensions all tokens of a picture begin alike: what was there before the step would go too.
            gone = span.places is None or not first
            position = answer.shown.position(answer.fed) + first
            if not gone or not llama_cpp.llama_memory_seq_rm(memory, answer.slot, position or -1, -1):
                raise StepFailedError("llama.cpp can't take back a part of a picture")

    def _decode(self, batch: Any, halt: Halt | None = None) -> None:
        begin = time.perf_counter()
        code = int(llama_cpp.llama_decode(self._loaded.context, batch))
        if self._loaded.offloaded:  # without, the call itself computes
            llama_cpp.llama_synchronize(self._loaded.context)
        self.seconds += time.perf_counter() - begin
        if code == 1:
            raise NoRoomError
        if code == ABORTED and halt and halt.wished:  # else it is a failure like others, which would come again
            raise HaltedError
        if code:
            said = f": {recent_errors[-1]}" if recent_errors else ""
            raise StepFailedError(f"llama.cpp failed with {code}{said}")
