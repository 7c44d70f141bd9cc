"""One llama_decode over what runs: plan, fill, compute; with less when the memory is full, one by one when it fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import llama_cpp
import numpy as np

from llmservice_runtime.engines.llamacpp.arguments import PROMPT_ROWS
from llmservice_runtime.engines.llamacpp.serve.binding import Batch, recent_errors
from llmservice_runtime.engines.llamacpp.serve.lanes import Lanes
from llmservice_runtime.engines.llamacpp.serve.model import LoadedModel
from llmservice_runtime.engines.llamacpp.serve.scheduler import CHUNK_UNIT, ChunkBudget, StepBound, plan_step, turns
from llmservice_runtime.generation.answers import Answer

log = logging.getLogger(__name__)

Taken = list[tuple[Answer, int]]
"""Answers and how many of their tokens one step computed, in batch order."""


class Decoder:
    """Computes steps. `fail(answer, message)` ends an answer that can't be computed."""

    def __init__(self, loaded: LoadedModel, lanes: Lanes, fail: Callable[[Answer, str], None]) -> None:
        self._loaded = loaded
        self._lanes = lanes
        self._fail = fail
        self._batch = Batch(loaded.batch)
        self._chunk = ChunkBudget(loaded.batch)
        self._bound = StepBound(loaded.batch)
        self.seconds = 0.0
        """Native time of the last step."""
        self.expected = 0.0
        """What the step at hand takes by the speed of those before; 0 = not known."""

    def outputs(self, answer: Answer, tokens: int) -> int:
        """Rows of logits that these tokens of an answer give."""
        if answer.prompt_logprobs is not None and answer.first is None:
            return tokens
        return 1 if tokens == answer.pending else 0

    def rows(self, taken: Iterable[tuple[Answer, int]]) -> int:
        return sum(self.outputs(answer, tokens) for answer, tokens in taken)

    def step(self) -> Taken:
        """Compute one step; what each answer got. Retries with less until it fits."""
        self.seconds = 0.0
        limit = self._loaded.batch
        while True:
            taken = self._plan(limit)
            if not taken:
                return []
            self.expected = self._bound.seconds(_prompt_tokens(taken))
            code = self._run_batch(taken)
            if code == 0:
                self._observe(taken)
                for answer, tokens in taken:
                    assert answer.slot is not None
                    self._lanes.kv.extend(answer.slot, answer.tokens[answer.fed : answer.fed + tokens])
                    answer.suspect = False
                return taken
            if code != 1:
                return self._isolate(taken, code)
            if self._lanes.evict():
                continue
            if any(tokens > 1 for _, tokens in taken) and limit > CHUNK_UNIT:
                limit //= 2
            elif len(self._lanes.running) > 1:
                self._lanes.preempt()
            else:
                self._fail(self._lanes.running[0], "the KV cache has no room for this answer")

    def _plan(self, limit: int) -> Taken:
        running = self._lanes.running
        while running:
            pending = [answer.pending for answer in running]
            wide = sum(1 for a in running if a.prompt_logprobs is not None and a.first is None)
            most = max(1, PROMPT_ROWS // wide) if wide else limit
            limits = [most if a.prompt_logprobs is not None and a.first is None else limit for a in running]
            may = turns(pending, [answer.fed for answer in running])
            limits = [tokens if now else 0 for tokens, now in zip(limits, may, strict=True)]
            free = limit
            if self._lanes.kv.shared:
                self._lanes.make_room(min(limit, sum(pending)))
                free = self._lanes.kv.free
                if free < sum(1 for tokens in pending if tokens == 1) or free == 0:
                    if len(running) == 1:
                        self._fail(running[0], "the KV cache has no room for this answer")
                    else:
                        self._lanes.preempt()
                    continue
            # Of neighbouring streams llama.cpp first takes as many tokens as the shortest has: one, beside generation.
            chunk = self._chunk.tokens + (not self._lanes.kv.shared)
            plan = plan_step(pending, limits, chunk=chunk, prompt=self._bound.tokens, batch=limit, free=free)
            taken = [(answer, tokens) for answer, tokens in zip(running, plan, strict=True) if tokens]
            # llama.cpp computes streams together only where the batch names them one after the other.
            return taken if self._lanes.kv.shared else sorted(taken, key=lambda pair: pair[0].slot or 0)
        return []

    def _run_batch(self, taken: Taken) -> int:
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
        code = int(llama_cpp.llama_decode(self._loaded.context, batch.of(n)))
        llama_cpp.llama_synchronize(self._loaded.context)
        self.seconds += time.perf_counter() - begin
        return code

    def _observe(self, taken: Taken) -> None:
        generated, prompt = sum(1 for _, tokens in taken if tokens == 1), _prompt_tokens(taken)
        self._chunk.observe(generated, prompt, self.seconds)
        self._bound.observe(generated, prompt, self.seconds)

    def _isolate(self, taken: Taken, code: int) -> Taken:
        """A batch failed: its answers start over one at a time; what fails alone is what fails."""
        log.error("llama_decode returned %d: %s", code, recent_errors[-1] if recent_errors else "no reason")
        for answer in [answer for answer, _ in reversed(taken)]:
            if len(taken) == 1:
                self._fail(answer, f"llama.cpp failed with {code}")
                continue
            answer.suspect = True
            self._lanes.back(answer)
        return []


def _prompt_tokens(taken: Taken) -> int:
    return sum(tokens for _, tokens in taken if tokens > 1)
