"""The step thread: admit, plan, decode, sample, emit; again and again while there is work.

Only this thread touches the model. Others talk to it through commands; it talks to readers once a step.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from math import isfinite
from typing import Any

import numpy as np

from llmservice_runtime.batching.decoder import Decoder
from llmservice_runtime.generation.answers import Answer
from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.generation.draw import Desk
from llmservice_runtime.generation.sampler import NoTokenError
from llmservice_runtime.generation.stream import Stream
from llmservice_runtime.openai.metrics import EngineMetrics, EngineStats
from llmservice_runtime.protocol.engine import Delta, FinishReason, GrammarError

log = logging.getLogger(__name__)

Command = Callable[[], None]
NOTHING = -1
"""In place of a token: none could be chosen, and the answer has failed."""


class StepLoop:
    """Runs answers over one loaded model of `vocab` tokens. Its thread begins at once."""

    def __init__(self, decoder: Decoder, vocab: int, metrics: EngineMetrics) -> None:
        self._metrics = metrics
        self._vocab = vocab
        self._decoder = decoder
        self._lanes = decoder.lanes
        self._desk = Desk(vocab)
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._out: dict[asyncio.AbstractEventLoop, list[tuple[Stream, Delta]]] = defaultdict(list)
        self._leaving: list[int] = []
        """Adapters that nobody can ask for any more, and that answers may still run with."""
        self._stopping = False
        self._mark = time.perf_counter()
        self.finished: deque[float] = deque(maxlen=64)
        """When the last answers ended (monotonic seconds): what Retry-After is measured by."""
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)
        self._thread.start()

    # What other threads call.

    def submit(self, answers: list[Answer]) -> None:
        """Queue answers of one request."""
        self._commands.put(lambda: self._lanes.queue(answers))
        if not answers[0].batch:
            self._decoder.halt()

    def cancel(self, stream: Stream) -> None:
        """Drop all answers of a stream; nothing more is delivered for it."""
        self._commands.put(lambda: self._drop(lambda answer: answer.stream is stream, None))

    def abort_all(self, message: str) -> None:
        """End every answer with an error delta."""
        self._commands.put(lambda: self._drop(lambda answer: True, message))

    def load_adapter(self, read: Any) -> Future[int]:
        """Load what the decoder has read of one, between two steps; its number. Nothing, where nobody waits for it any
        more."""
        loaded: Future[int] = Future()

        def load() -> None:
            if not loaded.set_running_or_notify_cancel():
                return
            try:
                loaded.set_result(self._decoder.load_adapter(read))
            except BaseException as error:  # whoever waits is to know
                loaded.set_exception(error)

        self._commands.put(load)
        return loaded

    def free_adapter(self, adapter: int) -> None:
        """Free one as soon as no answer runs with it; nobody submits with it from now on."""
        self._commands.put(lambda: self._leaving.append(adapter))

    @property
    def stats(self) -> EngineStats:
        """What runs and waits now; never waits for a step."""
        kept, kv = list(self._lanes.waiting), self._lanes.kv
        batch = sum(answer.batch for answer in kept)
        return EngineStats(
            running=len(self._lanes.running),
            waiting=len(kept),
            waiting_by_reason={"capacity": len(kept) - batch, "deferred": batch},
            kv_usage=kv.busy_cells() / kv.cells,
            step_seconds=self._decoder.expected,
        )

    def adapters(self) -> tuple[set[int], set[int]]:
        """Adapters that answers run with, and those that they wait for; never waits for a step."""
        running, waiting = (
            {answer.adapter for answer in list(where)} for where in (self._lanes.running, self._lanes.waiting)
        )
        return running, waiting

    def close(self) -> None:
        """Stop the thread and wait for its step."""

        def stop() -> None:
            self._stopping = True

        self._commands.put(stop)
        self._thread.join()

    # The thread.

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._decoder.go_on()
                self._obey()
                if not self._stopping and (self._lanes.running or self._lanes.waiting):
                    self._step()
                self._free_adapters()
            except Exception as error:
                log.exception("a step failed")
                self._drop(lambda answer: True, f"the engine failed: {error}")
                self._lanes.forget()
            self._flush()

    def _free_adapters(self) -> None:
        for adapter in [adapter for adapter in self._leaving if not self._lanes.uses(adapter)]:
            self._leaving.remove(adapter)
            self._lanes.drop(adapter)
            self._decoder.free_adapter(adapter)

    def _obey(self) -> None:
        """Carry out commands; without work, sleep until one comes."""
        idle = not self._lanes.running and not self._lanes.waiting
        while idle or not self._commands.empty():
            command = self._commands.get()
            if idle:
                self._mark = time.perf_counter()
            idle = False
            command()

    def _step(self) -> None:
        self._lanes.admit()
        self._lanes.tidy()
        taken = self._decoder.step(self._fail)
        now = time.monotonic()
        prompt = generated = 0
        gaps: list[float] = []
        outputs = [self._decoder.outputs(answer, tokens) for answer, tokens in taken]
        rows = sum(outputs)
        scores = self._decoder.scores(rows) if rows else np.empty((0, self._vocab), np.float32)
        row = 0
        sampling: list[tuple[Answer, int]] = []
        for (answer, tokens), given in zip(taken, outputs, strict=True):
            if tokens > 1 or answer.first is None:
                prompt += tokens
            if answer.prompt_logprobs is not None and answer.first is None:
                for offset in range(given):
                    answer.note_prompt_row(answer.fed + offset, scores[row + offset])
            row += given
            answer.fed += tokens
            if answer.pending == 0:
                sampling.append((answer, row - 1))
        chosen = self._choose(scores, sampling)
        for (answer, at), token in zip(sampling, chosen, strict=True):
            if answer.last is not None and not answer.batch:
                gaps.append(now - answer.last)
            generated += self._advance(answer, token, scores[at], now)
        if generated:
            self._lanes.running = [answer for answer in self._lanes.running if answer.slot is not None]
        mark = time.perf_counter()
        around = mark - self._mark - self._decoder.seconds
        self._metrics.step(prompt, generated, self._decoder.seconds, around, gaps)
        self._mark = mark

    def _choose(self, scores: Floats, sampling: list[tuple[Answer, int]]) -> list[int]:
        if len(sampling) == scores.shape[0] and all(answer.sampler.plain for answer, _ in sampling):
            best: list[int] = scores.argmax(axis=1).tolist()
            if all(isfinite(scores.item(at)) for at in enumerate(best)):  # else one by one, to tell whose are none
                return best
        chosen = []
        for answer, row in sampling:
            try:
                barrier = answer.matcher.barrier() if answer.matcher is not None else None
                chosen.append(answer.sampler.choose(scores[row], barrier, self._desk))
            except (GrammarError, NoTokenError) as error:
                self._fail(answer, f"no token can be chosen: {error}", unfit=answer.matcher is not None)
                chosen.append(NOTHING)
        return chosen

    def _advance(self, answer: Answer, token: int, row: Floats, now: float) -> int:
        """Hand the chosen token to its answer; how many tokens it generated."""
        if token == NOTHING:
            return 1
        if answer.first is None:
            self._metrics.prefilled(answer.prompt_length, answer.cached)
        if answer.limit <= answer.prompt_length:
            self._finish(answer, answer.nothing_to_generate(), now)
            return 1
        if answer.first is None and not answer.batch:
            self._metrics.first_token(now - answer.stream.arrived)
        try:
            delta = answer.take(token, row, now)
        except GrammarError as error:
            self._fail(answer, f"it refused its own token: {error}", unfit=True)
            return 1
        if delta.finish_reason is not None:
            self._finish(answer, delta, now)
        else:
            self._out[answer.stream.loop].append((answer.stream, delta))
        return 1

    def _finish(self, answer: Answer, delta: Delta, now: float) -> None:
        self._lanes.release(answer, keep=True)
        assert delta.finish_reason is not None
        self._metrics.request_finished(answer.record(delta.finish_reason, now))
        self.finished.append(now)
        self._out[answer.stream.loop].append((answer.stream, delta))

    def _fail(self, answer: Answer, message: str, *, unfit: bool = False) -> None:
        """End one answer with an error, `unfit` where its grammar is the reason; its memory is not trusted."""
        self._lanes.remove(answer, keep=False)
        self._metrics.request_finished(answer.record(FinishReason.ERROR, time.monotonic()))
        delta = Delta(answer.index, "", [], finish_reason=FinishReason.ERROR, error=message, unfit=unfit)
        self._out[answer.stream.loop].append((answer.stream, delta))

    def _drop(self, which: Callable[[Answer], bool], message: str | None) -> None:
        """Remove answers: with a message as errors, without one silently (their reader is gone)."""
        for answer in [a for a in (*self._lanes.running, *self._lanes.waiting) if which(a)]:
            if message is not None:
                self._fail(answer, message)
                continue
            self._lanes.remove(answer, keep=True)
            self._metrics.request_finished(answer.record(FinishReason.ABORT, time.monotonic()))

    def _flush(self) -> None:
        """One call into each event loop for all that this step made."""
        for loop, deltas in self._out.items():
            if loop.is_closed():
                self._abandon(loop)
            else:
                deltas[0][0].mailbox.post(deltas)
        self._out.clear()

    def _abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop is closed: nobody reads what it asked for."""
        self._drop(lambda answer: answer.stream.loop is loop, None)
