"""The asyncio face of a model that makes vectors or scores: implements protocol.pooling.Pooler over a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np

from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.metrics import EngineMetrics, EngineStats, FinishedRequest
from llmservice_runtime.pooling.queue import Job, Taken, Turns
from llmservice_runtime.protocol.engine import QueueFullError, Tokenizer
from llmservice_runtime.protocol.pooling import NoNumbersError, PoolInput, Traits, Vector

RETRY_SECONDS = 2

log = logging.getLogger(__name__)


class PooledModel(Protocol):
    """A loaded model; its methods but `pair` are for one thread."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def traits(self) -> Traits: ...
    @property
    def step_tokens(self) -> int:
        """What one step computes well."""
        ...

    @property
    def padded(self) -> bool:
        """Whether a text takes as much as the longest that is computed beside it."""
        ...

    def pair(self, query: Sequence[int], document: Sequence[int]) -> PoolInput:
        """See Pooler."""
        ...

    def compute(self, inputs: Sequence[PoolInput]) -> Sequence[Vector]:
        """What the texts become, in one step."""
        ...

    def held(self) -> Sequence[HeldLine]:
        """What it has of memory."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class PoolingEngine:
    """One model, texts of many requests at a time. Its methods are for an event loop; a thread of its own computes."""

    def __init__(
        self,
        model: PooledModel,
        settings: RuntimeSettings,
        metrics: EngineMetrics,
        other_gpus: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._context_tokens = settings.context_tokens
        self._other_gpus = other_gpus
        self._turns = Turns(model.step_tokens, padded=model.padded)
        self._places = settings.max_sequences + settings.max_queued_requests
        self._open = 0
        self._open_batch = 0
        """Of these, batch work."""
        self._computing = 0
        self._lock = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pooling", daemon=True)
        self._thread.start()

    @property
    def tokenizer(self) -> Tokenizer:
        return self._model.tokenizer

    @property
    def traits(self) -> Traits:
        return self._model.traits

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def vocab_size(self) -> int:
        return self._model.tokenizer.vocab_size

    @property
    def max_answers(self) -> int:
        return self._places

    def pair(self, query: Sequence[int], document: Sequence[int]) -> PoolInput:
        """See Pooler."""
        return self._model.pair(query, document)

    async def pool(self, inputs: Sequence[PoolInput], *, batch: bool = False) -> Sequence[Vector]:
        """See Pooler. Batch work takes no live request's place in the queue."""
        before = self._open if batch else self._open - self._open_batch
        if before >= self._places:
            self._metrics.rejected()
            message = f"{before} requests run or wait here, the most is {self._places}."
            raise QueueFullError(message, RETRY_SECONDS)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job, reason = Job(inputs, _telling(done), time.monotonic(), batch), "abort"
        self._open += 1
        self._open_batch += batch
        try:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the engine is shutting down")
                self._turns.add(job)
                self._lock.notify()
            await done
            reason = "stop" if job.broken is None else "error"
            if job.broken is not None:
                raise NoNumbersError(job.broken)
            return job.vectors
        finally:
            self._open -= 1
            self._open_batch -= batch
            job.cancelled = True
            done.get_loop().call_soon(self._over, job, reason)  # the answer goes first

    def _over(self, job: Job, reason: str) -> None:
        tokens = sum(len(given.tokens) for given in job.inputs)
        now = time.monotonic()
        ended = FinishedRequest(reason, tokens, 0, job.arrived, now, job.begun, batch=job.batch)
        self._metrics.request_finished(ended)
        self._metrics.prefilled(tokens, 0)

    def stats(self) -> EngineStats:
        """What runs and waits now, in requests; never waits for a step."""
        return EngineStats(running=min(self._computing, self._open), waiting=max(0, self._open - self._computing))

    def memory(self) -> Sequence[HeldLine]:
        """What the model has; empty = not known."""
        return self._model.held()

    def other_gpus(self) -> Sequence[str]:
        """The GPUs that are not the planned ones."""
        return self._other_gpus

    def close(self) -> None:
        """Stop the thread, end what waits with an error, free the model."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join()
        for job in self._turns.everything():
            job.tell(RuntimeError("the engine is shutting down"))
        self._model.close()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._computing = 0
                self._turns.drop_cancelled()
                while not self._closed and not len(self._turns):
                    self._lock.wait()
                if self._closed:
                    return
                taken = self._turns.take()
                self._computing = len({id(job) for job, _ in taken})
            self._step(taken)

    def _step(self, taken: Taken) -> None:
        begin = time.perf_counter()
        now = time.monotonic()
        for job, _ in taken:
            job.begun = job.begun or now
        inputs = [job.inputs[number] for job, number in taken]
        try:
            vectors = self._model.compute(inputs)
        except Exception as error:
            log.exception("a step failed")
            with self._lock:
                for job, _ in taken:
                    job.cancelled = True
            for job in {id(job): job for job, _ in taken}.values():
                job.tell(error)
            return
        computed = time.perf_counter()
        for (job, number), vector in zip(taken, vectors, strict=True):
            job.vectors[number] = vector
            if not np.isfinite(np.frombuffer(vector, np.float32)).all():
                job.broken = number
            job.open -= 1
            if not job.open:
                job.tell(None)
        tokens = sum(len(given.tokens) for given in inputs)
        self._metrics.step(tokens, 0, computed - begin, time.perf_counter() - computed)


def _telling(done: asyncio.Future[None]) -> Callable[[Exception | None], None]:
    """What ends a future of an event loop from another thread."""
    loop = done.get_loop()

    def tell(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def from_thread(error: Exception | None) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, error)

    return from_thread
