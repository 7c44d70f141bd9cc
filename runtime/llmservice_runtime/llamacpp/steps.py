"""The step thread: admit, plan, decode, sample, emit; again and again while there is work.

Only this thread touches llama.cpp's context. Others talk to it through `post`; it talks to readers once a step.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

import llama_cpp
import numpy as np

from llmservice_runtime.llamacpp.answers import Answer
from llmservice_runtime.llamacpp.binding import Batch, Floats, logits, recent_errors
from llmservice_runtime.llamacpp.kvcache import KvCache, common_prefix
from llmservice_runtime.llamacpp.memory import Memory
from llmservice_runtime.llamacpp.model import PROMPT_ROWS, LoadedModel
from llmservice_runtime.llamacpp.scheduler import CHUNK_UNIT, ChunkBudget, plan_step
from llmservice_runtime.llamacpp.stream import Stream, deliver
from llmservice_runtime.serving.engine import Delta, FinishReason, GrammarError
from llmservice_runtime.serving.metrics import EngineMetrics, EngineStats

log = logging.getLogger(__name__)

WORTH_WAITING = 64
"""A prompt waits for another that computes the same beginning now, when that saves at least so many tokens."""
LOOKAHEAD = 8
"""Waiting answers looked at beyond the first that must wait for a shared beginning."""
GROWTH = 16
"""Cells that each running answer should find free when another is admitted."""

Command = Callable[[], None]


class StepLoop:
    """Runs answers over one loaded model."""

    def __init__(self, loaded: LoadedModel, max_sequences: int, metrics: EngineMetrics) -> None:
        layout = loaded.layout
        self._loaded = loaded
        self._max = max_sequences
        self._metrics = metrics
        self._vocab = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(loaded.model)))
        self._memory = Memory(loaded.context, split=layout.split)
        self._kv = KvCache(
            layout.slots, layout.cells, shared=not layout.split, reuse=layout.reuse, idle_cells=layout.idle_cells
        )
        self._batch = Batch(loaded.batch)
        self._chunk = ChunkBudget(loaded.batch)
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._out: dict[object, list[tuple[Stream, Delta]]] = defaultdict(list)
        self._stopping = False
        self._decode_seconds = 0.0
        self._mark = time.perf_counter()
        self.stats = EngineStats()
        self.finished: deque[float] = deque(maxlen=64)
        """When the last answers ended (monotonic seconds): what Retry-After is measured by."""
        self._thread = threading.Thread(target=self._run, name="llama-steps", daemon=True)
        self._thread.start()

    # What other threads call.

    def submit(self, answers: list[Answer]) -> None:
        """Queue answers of one request."""
        self._commands.put(lambda: self._waiting.extend(answers))

    def cancel(self, stream: Stream) -> None:
        """Drop all answers of a stream; nothing more is delivered for it."""
        identity = id(stream)
        self._commands.put(lambda: self._drop(lambda answer: id(answer.stream) == identity, None))

    def abort_all(self, message: str) -> None:
        """End every answer with an error delta."""
        self._commands.put(lambda: self._drop(lambda answer: True, message))

    def close(self) -> None:
        """Stop the thread and wait for its step."""

        def stop() -> None:
            self._stopping = True

        self._commands.put(stop)
        self._thread.join()

    # The thread.

    def _run(self) -> None:
        while not self._stopping:
            self._obey()
            try:
                if not self._stopping and (self._running or self._waiting):
                    self._step()
            except Exception as error:
                log.exception("a step failed")
                self._drop(lambda answer: True, f"the engine failed: {error}")
                self._memory.clear()
                for slot in self._kv.slots:
                    self._kv.trim(slot.number, 0)
            self._flush()

    def _obey(self) -> None:
        """Carry out commands; without work, sleep until one comes."""
        idle = not self._running and not self._waiting
        while True:
            try:
                command = self._commands.get(block=idle)
            except queue.Empty:
                break
            if idle:
                self._mark = time.perf_counter()
            idle = False
            command()
        self._publish()

    def _publish(self) -> None:
        waiting = len(self._waiting)
        self.stats = EngineStats(
            running=len(self._running),
            waiting=waiting,
            waiting_by_reason={"capacity": waiting},
            kv_usage=self._kv.busy_cells() / self._kv.cells,
        )

    def _step(self) -> None:
        self._admit()
        taken = self._decode()
        now = time.monotonic()
        prompt = generated = 0
        gaps: list[float] = []
        rows = self._rows(taken)
        scores = logits(self._loaded.context, rows, self._vocab) if rows else np.empty((0, self._vocab), np.float32)
        row = 0
        sampling: list[tuple[Answer, int]] = []
        for answer, tokens in taken:
            if tokens > 1 or answer.first is None:
                prompt += tokens
            for offset in range(self._outputs(answer, tokens)):
                if answer.prompt_logprobs is not None and answer.first is None:
                    answer.note_prompt_row(answer.fed + offset, scores[row])
                row += 1
            answer.fed += tokens
            if answer.pending == 0:
                sampling.append((answer, row - 1))
        chosen = self._choose(scores, sampling)
        for (answer, at), token in zip(sampling, chosen, strict=True):
            if answer.last is not None:
                gaps.append(now - answer.last)
            generated += self._advance(answer, token, scores[at], now)
        if generated:
            self._running = [answer for answer in self._running if answer.slot is not None]
        self._metrics.inter_token(gaps)
        mark = time.perf_counter()
        self._metrics.step(prompt, generated, self._decode_seconds, mark - self._mark - self._decode_seconds)
        self._mark = mark

    def _admit(self) -> None:
        passed = 0
        for answer in list(self._waiting)[: self._max + LOOKAHEAD]:
            alone = answer.suspect or any(other.suspect for other in self._running)
            if len(self._running) >= self._max or passed > LOOKAHEAD or (alone and self._running):
                return
            if answer.limit <= answer.prompt_length and answer.prompt_logprobs is None:
                self._waiting.remove(answer)
                self._finish(answer, answer.nothing_to_generate(), time.monotonic())
                continue
            if self._better_later(answer):
                passed += 1
                continue
            if not self._place(answer):
                return

    def _better_later(self, answer: Answer) -> bool:
        """Whether a running prompt computes this one's beginning now."""
        if not self._kv.reuse or answer.prompt_logprobs is not None:
            return False
        tokens = answer.tokens[: answer.length]
        have = -1
        for other in self._running:
            if other.pending > 1:
                shared = min(common_prefix(other.tokens[: other.length], tokens), answer.length - 1)
                if shared - other.fed >= (CHUNK_UNIT if other.stream is answer.stream else WORTH_WAITING):
                    have = self._kv.match(tokens)[1] if have < 0 else have
                    if shared - have >= CHUNK_UNIT:
                        return True
        return False

    def _place(self, answer: Answer) -> bool:
        tokens = answer.tokens[: answer.length]
        reuse = answer.prompt_logprobs is None
        if self._kv.shared and self._running:
            known = self._kv.match(tokens)[1] if reuse else 0
            need = answer.length - known + sum(other.pending + GROWTH for other in self._running)
            self._memory.apply(self._kv.make_room(need))
            if self._kv.free < need:
                return False
        placement = self._kv.place(tokens, reuse=reuse)
        if placement is None:
            return False
        self._memory.apply(placement.ops)
        self._waiting.remove(answer)
        answer.slot, answer.fed = placement.slot, placement.reused
        if answer.scheduled is None:
            answer.scheduled = time.monotonic()
            answer.cached = placement.reused
            self._metrics.prefix_cache(answer.prompt_length, placement.reused)
        self._running.append(answer)
        return True

    def _outputs(self, answer: Answer, tokens: int) -> int:
        """Rows of logits that these tokens of an answer give."""
        if answer.prompt_logprobs is not None and answer.first is None:
            return tokens
        return 1 if tokens == answer.pending else 0

    def _rows(self, taken: Iterable[tuple[Answer, int]]) -> int:
        return sum(self._outputs(answer, tokens) for answer, tokens in taken)

    def _decode(self) -> list[tuple[Answer, int]]:
        """Compute one step; what each answer got. Retries with less until it fits."""
        self._decode_seconds = 0.0
        limit = self._loaded.batch
        while True:
            taken = self._plan(limit)
            if not taken:
                return []
            code = self._run_batch(taken)
            if code == 0:
                self._observe(taken)
                for answer, tokens in taken:
                    assert answer.slot is not None
                    self._kv.extend(answer.slot, answer.tokens[answer.fed : answer.fed + tokens])
                    answer.suspect = False
                return taken
            if code != 1:
                return self._isolate(taken, code)
            if ops := self._kv.evict():
                self._memory.apply(ops)
            elif any(tokens > 1 for _, tokens in taken) and limit > CHUNK_UNIT:
                limit //= 2
            elif len(self._running) > 1:
                self._preempt()
            else:
                self._fail(self._running[0], "the KV cache has no room for this answer")

    def _plan(self, limit: int) -> list[tuple[Answer, int]]:
        running = self._running
        while running:
            pending = [answer.pending for answer in running]
            wide = sum(1 for a in running if a.prompt_logprobs is not None and a.first is None)
            limits = [limit] * len(running)
            if wide:
                most = max(1, PROMPT_ROWS // wide)
                limits = [most if a.prompt_logprobs is not None and a.first is None else limit for a in running]
            free = limit
            if self._kv.shared:
                self._memory.apply(self._kv.make_room(min(limit, sum(pending))))
                free = self._kv.free
                if free < sum(1 for tokens in pending if tokens == 1) or free == 0:
                    if len(running) == 1:
                        self._fail(running[0], "the KV cache has no room for this answer")
                    else:
                        self._preempt()
                    continue
            plan = plan_step(pending, limits, chunk=self._chunk.tokens, batch=limit, free=free)
            return [(answer, tokens) for answer, tokens in zip(running, plan, strict=True) if tokens]
        return []

    def _run_batch(self, taken: list[tuple[Answer, int]]) -> int:
        batch = self._batch
        n = 0
        for answer, tokens in taken:
            start, end = answer.fed, answer.fed + tokens
            if tokens == 1:
                batch.tokens[n] = answer.tokens[start]
                batch.positions[n] = start
                batch.slots[n] = answer.slot
                batch.outputs[n] = self._outputs(answer, 1)
            else:
                batch.tokens[n : n + tokens] = answer.tokens[start:end]
                batch.positions[n : n + tokens] = np.arange(start, end, dtype=np.int32)
                batch.slots[n : n + tokens] = answer.slot
                outputs = self._outputs(answer, tokens)
                batch.outputs[n : n + tokens] = outputs == tokens
                batch.outputs[n + tokens - 1] = outputs > 0
            n += tokens
        begin = time.perf_counter()
        code = int(llama_cpp.llama_decode(self._loaded.context, batch.of(n)))
        llama_cpp.llama_synchronize(self._loaded.context)
        self._decode_seconds += time.perf_counter() - begin
        return code

    def _observe(self, taken: list[tuple[Answer, int]]) -> None:
        prompt = sum(tokens for _, tokens in taken if tokens > 1)
        self._chunk.observe(sum(1 for _, tokens in taken if tokens == 1), prompt, self._decode_seconds)

    def _isolate(self, taken: list[tuple[Answer, int]], code: int) -> list[tuple[Answer, int]]:
        """A batch failed: its answers start over one at a time; what fails alone is what fails."""
        log.error("llama_decode returned %d: %s", code, recent_errors[-1] if recent_errors else "no reason")
        for answer in [answer for answer, _ in reversed(taken)]:
            if len(taken) == 1:
                self._fail(answer, f"llama.cpp failed with {code}")
                continue
            answer.suspect = True
            self._back(answer)
        return []

    def _preempt(self) -> None:
        """The youngest gives its cells back and is computed again later; nothing of its answer is lost."""
        self._metrics.preempted()
        self._back(self._running[-1])

    def _back(self, answer: Answer) -> None:
        """Out of memory and to the head of the queue."""
        assert answer.slot is not None
        self._memory.apply(self._kv.release(answer.slot, keep=False))
        self._running.remove(answer)
        answer.slot, answer.fed = None, 0
        self._waiting.appendleft(answer)

    def _choose(self, scores: Floats, sampling: list[tuple[Answer, int]]) -> list[int]:
        if len(sampling) == scores.shape[0] and all(answer.sampler.plain for answer, _ in sampling):
            return [int(token) for token in scores.argmax(axis=1)]
        chosen = []
        for answer, row in sampling:
            try:
                allowed = answer.matcher.allowed() if answer.matcher is not None else None
                chosen.append(answer.sampler.choose(scores[row], allowed))
            except GrammarError as error:
                log.warning("a grammar failed: %s", error)
                chosen.append(-1)
        return chosen

    def _advance(self, answer: Answer, token: int, row: Floats, now: float) -> int:
        """Hand the chosen token to its answer; how many tokens it generated."""
        if token < 0:
            self._fail(answer, "the grammar allows no token here")
            return 1
        if answer.limit <= answer.prompt_length:
            self._finish(answer, answer.nothing_to_generate(), now)
            return 1
        if answer.first is None:
            self._metrics.first_token(now - answer.stream.arrived)
        try:
            delta = answer.take(token, row, now)
        except GrammarError as error:
            self._fail(answer, f"the grammar refused its own token: {error}")
            return 1
        if delta.finish_reason is not None:
            self._finish(answer, delta, now)
        else:
            self._out[answer.stream.loop].append((answer.stream, delta))
        return 1

    def _finish(self, answer: Answer, delta: Delta, now: float) -> None:
        if answer.slot is not None:
            self._memory.apply(self._kv.release(answer.slot, keep=True))
            answer.slot = None
        assert delta.finish_reason is not None
        self._metrics.request_finished(answer.record(delta.finish_reason, now))
        self.finished.append(now)
        self._out[answer.stream.loop].append((answer.stream, delta))

    def _fail(self, answer: Answer, message: str) -> None:
        """End one answer with an error; its memory is not trusted."""
        if answer.slot is not None:
            self._memory.apply(self._kv.release(answer.slot, keep=False))
            answer.slot = None
        if answer in self._running:
            self._running.remove(answer)
        self._metrics.request_finished(answer.record(FinishReason.ERROR, time.monotonic()))
        delta = Delta(answer.index, "", [], finish_reason=FinishReason.ERROR, error=message)
        self._out[answer.stream.loop].append((answer.stream, delta))

    def _drop(self, which: Callable[[Answer], bool], message: str | None) -> None:
        """Remove answers: with a message as errors, without one silently (their reader is gone)."""
        for answer in [a for a in (*self._running, *self._waiting) if which(a)]:
            if answer in self._waiting:
                self._waiting.remove(answer)
            if message is not None:
                self._fail(answer, message)
                continue
            if answer.slot is not None:
                self._memory.apply(self._kv.release(answer.slot, keep=True))
                answer.slot = None
                self._running.remove(answer)
            self._metrics.request_finished(answer.record(FinishReason.ABORT, time.monotonic()))

    def _flush(self) -> None:
        """One call into each event loop for all that this step made."""
        self._publish()
        for loop, deltas in self._out.items():
            try:
                loop.call_soon_threadsafe(deliver, deltas)  # type: ignore[attr-defined]
            except RuntimeError:
                gone = {id(stream) for stream, _ in deltas}
                self._drop(lambda answer, gone=gone: id(answer.stream) in gone, None)  # type: ignore[misc]
        self._out.clear()
