"""The asyncio face of a batching engine: implements protocol.engine.Engine over a step thread."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from llmservice_runtime.batching.decoder import Decoder
from llmservice_runtime.batching.steps import StepLoop
from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.generation.answers import Answer
from llmservice_runtime.generation.grammar import GrammarCompiler, Vocabulary
from llmservice_runtime.generation.stream import Stream
from llmservice_runtime.openai.metrics import EngineMetrics, EngineStats
from llmservice_runtime.protocol.engine import GenerationRequest, Grammar, QueueFullError, UnknownAdapterError
from llmservice_runtime.protocol.pictures import Eyes

MAX_RETRY_AFTER = 120
RATE_WINDOW_SECONDS = 60.0


class BatchingEngine:
    """One model, many answers at a time. Its methods are for an event loop; the work runs in a thread of its own.

    `free` gives the model back, once no step runs; `held` tells what it has; `other_gpus` as in `HostedEngine`.
    """

    def __init__(
        self,
        tokenizer: Vocabulary,
        decoder: Decoder,
        settings: RuntimeSettings,
        metrics: EngineMetrics,
        free: Callable[[], None],
        held: Callable[[], Sequence[HeldLine]] = tuple,
        other_gpus: Sequence[str] = (),
        eyes: Eyes | None = None,
    ) -> None:
        self._metrics = metrics
        self._tokenizer = tokenizer
        self._context_tokens = settings.context_tokens
        self._free = free
        self._held = held
        self._other_gpus = other_gpus
        self._eyes = eyes
        self._grammars = GrammarCompiler(tokenizer)
        self._decoder = decoder
        self._steps = StepLoop(decoder, tokenizer.vocab_size, metrics)
        metrics.max_adapters = settings.adapter_count
        self._places = settings.max_sequences + settings.max_queued_requests
        self._open = 0
        self._open_batch = 0
        """Of these, batch work, which takes no live answer's place in the queue."""
        self._adapters: dict[str, int] = {}
        """Loaded adapters, by name."""
        self._drained: asyncio.Event | None = None

    @property
    def tokenizer(self) -> Vocabulary:
        return self._tokenizer

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.vocab_size

    @property
    def max_answers(self) -> int:
        return self._places

    @property
    def eyes(self) -> Eyes | None:
        return self._eyes

    def submit(self, request: GenerationRequest) -> Stream:
        """See protocol.engine.Engine. Must be called on an event loop."""
        if self._drained is not None:
            self._metrics.rejected("draining")
            raise QueueFullError("This replica is shutting down.", 1, draining=True)
        before = self._open if request.batch else self._open - self._open_batch
        if before + request.n > self._places:
            self._metrics.rejected()
            message = f"{before} answers run or wait here, the most is {self._places}."
            raise QueueFullError(message, self._retry_after())
        if request.adapter and request.adapter not in self._adapters:
            raise UnknownAdapterError(request.adapter)
        ended = self._batch_ended if request.batch else self._ended
        grammar = request.params.grammar
        if grammar is None or self._grammars.cached(grammar):
            stream = Stream(request.n, ended, self._steps.cancel)
            self._begin(request, stream)
        else:

            async def start(stream: Stream) -> None:
                await self.validate_grammar(grammar)
                self._begin(request, stream)

            stream = Stream(request.n, ended, self._steps.cancel, start)
        # Counted when nothing can be refused any more: nobody would give the places back.
        self._open += request.n
        self._open_batch += request.n if request.batch else 0
        return stream

    def _begin(self, request: GenerationRequest, stream: Stream) -> None:
        grammar = request.params.grammar
        adapter = self._adapters.get(request.adapter, 0) if request.adapter else 0
        if request.adapter and not adapter:  # it went while the grammar was made
            raise UnknownAdapterError(request.adapter)
        answers = []
        for index in range(request.n):
            matcher = self._grammars.matcher(grammar) if grammar is not None else None
            answers.append(Answer(request, index, stream, self._tokenizer, self.context_tokens, matcher, adapter))
        self._steps.submit(answers)

    def _batch_ended(self, answers: int) -> None:
        self._open_batch -= answers
        self._ended(answers)

    def _ended(self, answers: int) -> None:
        self._open -= answers
        if self._open == 0 and self._drained is not None:
            self._drained.set()

    async def validate_grammar(self, grammar: Grammar) -> None:
        """GrammarError when it can't be honoured. Compiles in a thread; the result is kept."""
        await self._grammars.prepare(grammar)

    async def load_adapter(self, name: str, path: Path) -> None:
        """See openai.loading.Adapting."""
        with ExitStack() as stack:
            read = await asyncio.to_thread(stack.enter_context, self._decoder.read_adapter(path))
            adapter = await asyncio.wrap_future(self._steps.load_adapter(read))
        before, self._adapters[name] = self._adapters.get(name), adapter
        if before is not None:
            self._steps.free_adapter(before)

    async def unload_adapter(self, name: str) -> None:
        """See openai.loading.Adapting."""
        self._steps.free_adapter(self._adapters.pop(name))

    def stats(self) -> EngineStats:
        """What runs and waits now; never waits for a step."""
        stats = self._steps.stats
        if not self._adapters:
            return stats
        running, waiting = (
            tuple(sorted(name for name, adapter in self._adapters.items() if adapter in found))
            for found in self._steps.adapters()
        )
        return replace(stats, running_adapters=running, waiting_adapters=waiting)

    def memory(self) -> Sequence[HeldLine]:
        """What weights and cache have; empty = not known."""
        return self._held()

    def other_gpus(self) -> Sequence[str]:
        """The GPUs that are not the planned ones."""
        return self._other_gpus

    def begin_drain(self) -> None:
        """Refuse new requests from now on; what runs or waits goes on."""
        if self._drained is None:
            self._drained = asyncio.Event()
        if self._open == 0:
            self._drained.set()

    async def drained(self, seconds: float) -> bool:
        """After `begin_drain`: wait up to so many seconds until no answer is open; whether that was reached."""
        assert self._drained is not None
        try:
            await asyncio.wait_for(self._drained.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def abort_all(self, message: str = "the engine is shutting down") -> None:
        """End every answer with an error delta."""
        self._steps.abort_all(message)

    def close(self) -> None:
        """Stop the thread, end what still runs with an error, free the model."""
        self.abort_all()
        self._steps.close()
        self._free()

    def _retry_after(self) -> int:
        """Seconds until a place gets free at the rate of the last minute; 5 when nothing is known."""
        now = time.monotonic()
        recent = [at for at in list(self._steps.finished) if now - at < RATE_WINDOW_SECONDS]
        if len(recent) < 2:
            return 5
        rate = len(recent) / max(now - recent[0], 0.1)
        return max(1, min(MAX_RETRY_AFTER, math.ceil(1 / rate)))
