"""The life of an engine process: bind, load, prove, serve, drain, end. The same for every engine of ours."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.serving.app import make_app
from llmservice_runtime.serving.engine import Engine, FinishReason, GenerationRequest, SamplingParams
from llmservice_runtime.serving.generation import submitted
from llmservice_runtime.serving.metrics import EngineMetrics, EngineStats
from llmservice_runtime.serving.reports import Reporter, die_with_parent
from llmservice_runtime.serving.state import Server

STEP_REPORT_SECONDS = 1.0
PROGRESS_STEP = 0.02
"""Engines report every tensor; the supervisor hears of every fiftieth of the model."""
SETTLE_SECONDS, SETTLE_CHECKS = 0.02, 50
"""A cancelled request leaves the engine with the step it is in."""
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
    die_with_parent()
    reporter = Reporter.from_environment()
    reporter.phase(Phase.STARTING)
    try:
        listener = bind(settings.host, settings.port)
        return asyncio.run(_Host(settings, load, reporter, listener).run())
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


class _Host:
    def __init__(self, settings: RuntimeSettings, load: Load, reporter: Reporter, listener: socket.socket) -> None:
        self._settings = settings
        self._load = load
        self._reporter = reporter
        self._listener = listener
        self._metrics = EngineMetrics(settings.model_name)
        self._server = Server(
            settings.model_name, settings.context_tokens, self._metrics, settings.model_aliases, settings.task
        )
        self._stop = asyncio.Event()
        self._started = time.monotonic()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        async with self._listening():
            engine = await self._loaded()
            reports = asyncio.ensure_future(self._report_steps(engine))
            await self._stop.wait()
            self._reporter.phase(Phase.DRAINING)
            self._metrics.draining = True
            await self._server.drain.run(self._settings.drain_seconds)
            reports.cancel()
        engine.close()
        return 0

    def _signalled(self, number: int) -> None:
        """First: drain. Second, or nothing loaded yet: end now; a native load can't be interrupted otherwise."""
        if self._server.engine is None:
            os._exit(0)
        if self._stop.is_set():
            os._exit(128 + number)
        self._stop.set()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        runner = web.AppRunner(
            make_app(self._server),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, self._listener).start()
            yield
        finally:
            await runner.cleanup()

    async def _loaded(self) -> HostedEngine:
        """Load and prove; the API answers 503 meanwhile. UserError carries the failure class."""
        loop = asyncio.get_running_loop()
        told = 0.0

        def progress(fraction: float) -> None:
            nonlocal told
            if fraction - told >= PROGRESS_STEP:
                told = fraction
                self._reporter.phase(Phase.LOADING, round(fraction, 3))

        async with self._timed(Phase.LOADING):
            engine = await loop.run_in_executor(None, self._load, self._settings, self._metrics, progress)
        async with self._timed(Phase.SELF_TEST):
            await generate_one(engine)
        self._metrics.clear()
        self._metrics.stats = engine.stats
        self._server.serve(engine)
        port = int(self._listener.getsockname()[1])
        detail = {"context_tokens": engine.context_tokens, "max_sequences": self._settings.max_sequences}
        self._reporter.ready(port, time.monotonic() - self._started, detail)
        log.info("%s answers on %s:%d", self._settings.model_name, self._settings.host, port)
        return engine

    @asynccontextmanager
    async def _timed(self, phase: Phase) -> AsyncIterator[None]:
        self._reporter.phase(phase)
        start = time.monotonic()
        yield
        self._metrics.load_phases[phase.value] = time.monotonic() - start

    async def _report_steps(self, engine: HostedEngine) -> None:
        """A line a second while requests run, and one when the last has ended."""
        drain = self._server.drain
        while True:
            await drain.busy.wait()
            while not drain.idle.is_set():
                self._report(engine)
                try:
                    await asyncio.wait_for(drain.idle.wait(), STEP_REPORT_SECONDS)
                except TimeoutError:
                    continue
            for _ in range(SETTLE_CHECKS):
                if not drain.idle.is_set() or not engine.stats().running:
                    break
                await asyncio.sleep(SETTLE_SECONDS)
            self._report(engine)

    def _report(self, engine: HostedEngine) -> None:
        stats = engine.stats()
        self._reporter.step(stats.running, stats.waiting, self._metrics.steps)


async def generate_one(engine: Engine) -> None:
    """Warming up and self-test in one: one token from a short prompt. UserError SelfTestFailed when none comes."""
    prompt = engine.tokenizer.encode("Hello", add_special=True, parse_special=False) or [0]
    params = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
    tokens = 0
    problem = "no token came"
    async with submitted(engine, [GenerationRequest("self-test", prompt, params)]) as deltas:
        async for delta in deltas:
            tokens += len(delta.token_ids)
            if delta.finish_reason is FinishReason.ERROR:
                problem = delta.error or problem
    if tokens == 0:
        raise UserError(
            f"The model loaded but generated nothing: {problem}.",
            "Check that the model file is whole and made for this version of the engine.",
            FailureClass.SELF_TEST_FAILED,
        )
