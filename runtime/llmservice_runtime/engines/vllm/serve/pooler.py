"""Vectors and scores by vLLM: a text of each request in turn, so many at a time as fill its steps."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
from array import array
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.vllm.serve.tokens import HfTokenizer
from llmservice_runtime.formats.sentences import Sentences
from llmservice_runtime.pooling.files import Pairs, traits_of
from llmservice_runtime.pooling.queue import Job, Turns
from llmservice_runtime.protocol.engine import QueueFullError
from llmservice_runtime.protocol.pooling import PoolInput, Vector

RETRY_SECONDS = 2
AHEAD = 2
"""Steps whose texts vLLM has: while one is computed, it takes those of the next. All others wait here, in turns; vLLM
would finish the first request before the second."""
TASKS = {"Embedding": "embed", "Rerank": "classify"}


class VllmPooler:
    """One model, texts of many requests at a time. Implements protocol.pooling.Pooler; for one event loop."""

    def __init__(
        self, engine_client: Any, settings: RuntimeSettings, tokenizer: HfTokenizer, recipe: Sentences, *, typed: bool
    ) -> None:
        """`typed`: the model tells the second text of a pair by its token type."""
        self._engine = engine_client
        self._task = TASKS[settings.task]
        self._ranks = settings.task == "Rerank"
        self._typed = typed
        self._numbers = itertools.count()
        scheduler = engine_client.vllm_config.scheduler_config
        self._turns = Turns(int(scheduler.max_num_batched_tokens), padded=False)
        self._some = asyncio.Event()
        self._jobs = set[Job]()
        self.max_answers = settings.max_sequences + settings.max_queued_requests
        self.tokenizer = tokenizer
        self.context_tokens = int(engine_client.model_config.max_model_len)
        self.vocab_size = tokenizer.vocab_size
        self.traits = traits_of(engine_client.model_config.hf_text_config, recipe, tokenizer)
        self.pair = Pairs(partial(tokenizer.encode, add_special=False, parse_special=False), tokenizer.pair).joined
        self._lanes = [asyncio.ensure_future(self._lane()) for _ in range(AHEAD)]

    async def pool(self, inputs: Sequence[PoolInput], *, batch: bool = False) -> Sequence[Vector]:
        """See Pooler. Batch work takes no live request's place in the queue."""
        before = sum(batch or not job.batch for job in self._jobs)
        if before >= self.max_answers:
            message = f"{before} requests run or wait here, the most is {self.max_answers}."
            raise QueueFullError(message, RETRY_SECONDS)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job = Job(inputs, partial(_tell, done), time.monotonic(), batch)
        self._jobs.add(job)
        self._turns.add(job)
        self._some.set()
        try:
            await done
            return job.vectors
        finally:
            self._jobs.discard(job)
            job.cancelled = True

    @property
    def requests(self) -> tuple[int, int]:
        """How many run, and how many wait for their first text's turn."""
        running = sum(job.begun is not None for job in self._jobs)
        return running, len(self._jobs) - running

    async def _lane(self) -> None:
        """One step's texts after the other."""
        while True:
            await self._some.wait()
            self._turns.drop_cancelled()
            if len(self._turns):
                await asyncio.gather(*(self._compute(job, number) for job, number in self._turns.take()))
            else:
                self._some.clear()

    async def _compute(self, job: Job, number: int) -> None:
        """One text of a request."""
        job.begun = job.begun or time.monotonic()
        try:
            job.vectors[number] = await self._vector(job.inputs[number])
        except Exception as error:
            job.cancelled = True
            job.tell(error)
            return
        job.open -= 1
        if not job.open:
            job.tell(None)

    async def _vector(self, given: PoolInput) -> Vector:
        """A score is made 0 to 1, as sentence-transformers does it, whatever the files say of an activation."""
        from vllm import PoolingParams

        types = {"compressed_token_type_ids": given.second} if self._typed and given.second else None
        normalizes = self.traits.normalized and not self._ranks
        params = PoolingParams(task=self._task, use_activation=normalizes, extra_kwargs=types)
        name = f"llmservice-pool-{next(self._numbers)}"
        async with aclosing(self._engine.encode({"prompt_token_ids": list(given.tokens)}, params, name)) as outputs:
            found = [output async for output in outputs][-1]
        if found.error is not None:
            raise RuntimeError(f"vLLM failed with a text: {found.error}")
        numbers = found.outputs.data.float()
        if self._ranks:
            numbers = numbers[:1].sigmoid()
        return array("f", numbers.contiguous().numpy().tobytes())


def typed(model_config: Any) -> bool:
    """Whether the second text of a pair has a type of its own, and vLLM's code for the model takes it."""
    from vllm.model_executor.model_loader import get_model_cls

    takes = inspect.signature(get_model_cls(model_config).forward).parameters
    return "token_type_ids" in takes and getattr(model_config.hf_text_config, "type_vocab_size", 0) > 1


def _tell(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
