"""The start of every engine process of ours: bind, then load while the web stack is imported."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.serving.engine import Engine
from llmservice_runtime.serving.metrics import EngineMetrics, EngineStats
from llmservice_runtime.serving.reports import Reporter, die_with_parent

PROGRESS_STEP = 0.02
"""Engines report every tensor; the supervisor hears of every fiftieth of the model."""
BACKLOG = 1024

log = logging.getLogger(__name__)


class HostedEngine(Engine, Protocol):
    """An engine that a process hosts."""

    def stats(self) -> EngineStats:
        """What runs and waits now; answers while a step runs."""
        ...

    def close(self) -> None:
        """Stop the step thread and free the model."""
        ...


Load = Callable[[RuntimeSettings, EngineMetrics, Callable[[float], None]], HostedEngine]
"""Loads the model, in a thread; the last argument takes progress 0..1. UserError for what a user can mend."""


def run(settings: RuntimeSettings, load: Load) -> int:
    """Host one engine until it is told to stop; the exit code of the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until the host takes over: nothing is served yet.
        signal.signal(number, lambda *_: os._exit(0))
    # What is imported and loaded stays; the host collects again once it serves.
    gc.disable()
    die_with_parent()
    reporter = Reporter.from_environment()
    reporter.phase(Phase.STARTING)
    try:
        listener = bind(settings.host, settings.port)
        loading = Loading(settings, load, reporter)
        # The web stack takes longer to import than a small model to load.
        import asyncio

        from llmservice_runtime.serving.host import Host

        return asyncio.run(Host(settings, loading, reporter, listener).run())
    except UserError as error:
        log.error("%s", error)
        reporter.failure(error)
        return 1


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, before anything slow happens; UserError PortInUse names the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"The engine can't listen on {host}:{port}: {error.strerror}.",
            "End the process that holds the port, or choose another (0 = any free one).",
            FailureClass.PORT_IN_USE,
        ) from error
    return listener


class Loading:
    """A model on its way: `engine` is the future of it. Begins in a thread of its own when it is made."""

    def __init__(self, settings: RuntimeSettings, load: Load, reporter: Reporter) -> None:
        self.metrics = EngineMetrics(settings.model_name)
        self._reporter = reporter
        self._started = time.monotonic()
        self._told = 0.0
        self.engine = ThreadPoolExecutor(1, "load").submit(self._run, settings, load)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def _run(self, settings: RuntimeSettings, load: Load) -> HostedEngine:
        with self.timed(Phase.LOADING):
            return load(settings, self.metrics, self._progress)

    def _progress(self, fraction: float) -> None:
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
