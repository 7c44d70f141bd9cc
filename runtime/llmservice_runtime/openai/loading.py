"""A model on its way into memory, in a thread, with its phases told; and what an engine must offer to be hosted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.metrics import EngineMetrics, EngineStats
from llmservice_runtime.openai.reports import Reporter
from llmservice_runtime.protocol.engine import Engine, Served
from llmservice_runtime.protocol.pooling import Pooler

PROGRESS_STEP = 0.02
"""Engines report every tensor; the supervisor hears of every fiftieth of the model."""


class Hosted(Served, Protocol):
    """What a process asks of a model that it hosts."""

    def stats(self) -> EngineStats:
        """What runs and waits now; answers while a step runs."""
        ...

    def memory(self) -> Sequence[HeldLine]:
        """What its weights and its cache have, once it is loaded; empty = it can't tell."""
        ...

    def other_gpus(self) -> Sequence[str]:
        """The GPUs that it runs on and that are not the planned ones, as the driver names them."""
        ...

    def close(self) -> None:
        """Stop the step thread and free the model."""
        ...


class HostedEngine(Engine, Hosted, Protocol):
    """An engine that a process hosts."""


@runtime_checkable
class Adapting(Protocol):
    """An engine that loads LoRA adapters beside what runs. A request names one (`GenerationRequest.adapter`)."""

    async def load_adapter(self, name: str, path: Path) -> None:
        """Load what is at `path`, a folder of PEFT's files or a GGUF; one of the same name is replaced, and what runs
        with that goes on with it. UserError when it can't be loaded here."""
        ...

    async def unload_adapter(self, name: str) -> None:
        """Take no more requests for it; its memory is free when the last that runs has ended."""
        ...


@runtime_checkable
class HostedPooler(Pooler, Hosted, Protocol):
    """One that makes vectors or scores."""


Load = Callable[[RuntimeSettings, EngineMetrics, Callable[[float], None]], HostedEngine | HostedPooler]
"""Loads the model, in a thread; the last argument takes progress 0..1: 0 when all of the engine is imported. UserError
for what a user can mend. A pooler for the tasks Embedding and Rerank, else an engine that writes."""
IMPORT_SECONDS = 10.0
"""Who waits for an engine's imports waits no longer."""


class Loading:
    """A model on its way: `engine` is the future of it. Begins in a thread of its own when it is made."""

    def __init__(self, settings: RuntimeSettings, load: Load, reporter: Reporter) -> None:
        self.metrics = EngineMetrics(settings.model_name)
        self._reporter = reporter
        self._started = time.monotonic()
        self._told = 0.0
        self._imported = threading.Event()
        self.engine = ThreadPoolExecutor(1, "load").submit(self._run, settings, load)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def wait_imported(self) -> None:
        """Until native code has the model: what others import before that comes on top, as Python does one thing at a
        time."""
        self._imported.wait(IMPORT_SECONDS)

    def _run(self, settings: RuntimeSettings, load: Load) -> HostedEngine | HostedPooler:
        try:
            with self.timed(Phase.LOADING):
                return load(settings, self.metrics, self._progress)
        finally:
            self._imported.set()

    def _progress(self, fraction: float) -> None:
        self._imported.set()
        if fraction - self._told >= PROGRESS_STEP:
            self._told = fraction
            self._reporter.phase(Phase.LOADING, round(fraction, 3))

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Reports the phase and, at its end, how long it took."""
        self._reporter.phase(phase)
        start = time.monotonic()
        yield
        self.metrics.load_phases[phase.value] = time.monotonic() - start
