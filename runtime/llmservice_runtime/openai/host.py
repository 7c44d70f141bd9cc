"""The life of an engine process once its port is bound: load, prove, serve, drain, end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from aiohttp import web

from llmservice_runtime.contract.adapters import Order, parse_order
from llmservice_runtime.contract.bounds import ANY
from llmservice_runtime.contract.listening import in_url, is_loopback
from llmservice_runtime.contract.memory import GPU
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.adapters import AdapterDesk
from llmservice_runtime.openai.app import make_app
from llmservice_runtime.openai.generation import submitted
from llmservice_runtime.openai.loading import Adapting, Hosted, HostedEngine, HostedPooler, Loading
from llmservice_runtime.openai.pooling_test import pooling_test
from llmservice_runtime.openai.reports import Reporter, control_lines, report_work
from llmservice_runtime.openai.self_test import Ask, Came, Speed, self_test
from llmservice_runtime.openai.state import Server
from llmservice_runtime.protocol.engine import Engine, FinishReason, GenerationRequest, SamplingParams
from llmservice_runtime.wire.callers import Callers
from llmservice_runtime.wire.server import ApiRunner

SETTLE_SECONDS, SETTLE_CHECKS = 0.02, 50
"""A cancelled request leaves the engine with the step it is in."""

log = logging.getLogger(__name__)


class Host:
    """Serves what `loading` loads on `listener`."""

    def __init__(
        self,
        settings: RuntimeSettings,
        loading: Loading,
        reporter: Reporter,
        listener: socket.socket,
        unsupported_fields: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._loading = loading
        self._reporter = reporter
        self._listener = listener
        self._metrics = loading.metrics
        self._server = Server(
            settings.model_name, settings.context_tokens, self._metrics, settings.model_aliases, settings.task
        )
        self._server.callers = callers_of(settings)
        self._server.unsupported_fields = unsupported_fields
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Until told to stop; the exit code. UserError when nothing could be loaded."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        async with self._listening():
            engine = await self._loaded()
            reports = asyncio.ensure_future(self._report_steps(engine))
            orders = asyncio.ensure_future(self._obey_orders())
            await self._stop.wait()
            self._reporter.phase(Phase.DRAINING)
            self._metrics.draining = True
            await self._server.drain.run(self._settings.drain_seconds)
            reports.cancel()
            orders.cancel()
        engine.close()
        return 0

    def _signalled(self, number: int) -> None:
        """First: drain. Second, or nothing loaded yet: end now; a native load can't be interrupted otherwise."""
        if not self._server.serves:
            os._exit(0)
        if self._stop.is_set():
            os._exit(128 + number)
        self._stop.set()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        runner = ApiRunner(
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

    async def _loaded(self) -> Hosted:
        """Load and prove; the API answers 503 meanwhile. UserError carries the failure class."""
        engine = await asyncio.wrap_future(self._loading.engine)
        with self._loading.timed(Phase.SELF_TEST):
            speed = await self._proved(engine)
        self._metrics.clear()
        self._metrics.stats = engine.stats
        if isinstance(engine, HostedPooler):
            self._server.serve_pooled(engine)
        else:
            self._server.serve(engine)
        await self._with_adapters(engine)
        gc.freeze()  # 64,000 objects that stay: looked over, they hold up a step by 13 ms now and then
        gc.enable()
        port = int(self._listener.getsockname()[1])
        detail: dict[str, Any] = {
            "context_tokens": engine.context_tokens,
            "max_sequences": self._settings.max_sequences,
            "memory": [asdict(line) for line in engine.memory()],
            "other_gpus": list(engine.other_gpus()),
            **speed.as_report(),
        }
        self._reporter.ready(port, self._loading.seconds, detail)
        log.info("%s answers on %s:%d", self._settings.model_name, in_url(self._settings.host), port)
        return engine

    async def _with_adapters(self, engine: Hosted) -> None:
        """What is to be loaded when a replica starts is loaded before it is ready."""
        if not self._settings.adapters_file:
            return
        adapting = engine if isinstance(engine, Adapting) else None
        self._desk = AdapterDesk(adapting, self._server, self._reporter, self._settings.adapters_guard)
        self._reporter.phase(Phase.LOADING, detail="adapters")
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def listen() -> None:
            for line in control_lines():
                if (order := parse_order(line)) is not None:
                    loop.call_soon_threadsafe(self._orders.put_nowait, order)

        threading.Thread(target=listen, name="control", daemon=True).start()
        await self._desk.obey(await self._orders.get())

    async def _obey_orders(self) -> None:
        """Adapters that come and go while it serves."""
        while self._settings.adapters_file:
            await self._desk.obey(await self._orders.get())

    async def _proved(self, engine: HostedEngine | HostedPooler) -> Speed:
        encode = partial(engine.tokenizer.encode, add_special=True, parse_special=False)
        if isinstance(engine, HostedPooler):
            return await pooling_test(engine, encode)
        sequences = min(self._settings.max_sequences, engine.max_answers)
        compiles = any(line.where == GPU for line in engine.memory())
        return await self_test(asking(engine), encode, engine.context_tokens, sequences, compiles=compiles)

    async def _report_steps(self, engine: Hosted) -> None:
        drain = self._server.drain

        async def report() -> None:
            for _ in range(SETTLE_CHECKS):
                if not drain.idle.is_set() or not engine.stats().running:
                    break
                await asyncio.sleep(SETTLE_SECONDS)
            self._report(engine)

        await report_work(drain.busy, drain.idle, report)

    def _report(self, engine: Hosted) -> None:
        stats = engine.stats()
        self._reporter.step(stats.running, stats.waiting, self._metrics.steps, stats.step_seconds, stats.kv_usage)


def callers_of(settings: RuntimeSettings) -> Callers | None:
    """Who may call: on loopback no page but those of `allow_origins`; elsewhere anybody, until origins are named."""
    origins = frozenset(origin.lower() for origin in settings.allow_origins)
    loopback = is_loopback(settings.host)
    if not origins:
        return Callers() if loopback else None
    hosts: frozenset[str] = frozenset() if loopback else frozenset({ANY})
    return Callers(loopback, hosts, origins, origin_setting="To let it, name {} in the setting `allow_origins`.")


def asking(engine: Engine) -> Ask:
    """How the self-test asks an engine of ours."""

    async def ask(prompt: Sequence[int], tokens: int, answers: int) -> AsyncGenerator[Came]:
        params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        async with submitted(engine, [GenerationRequest("self-test", prompt, params, n=answers)]) as deltas:
            async for delta in deltas:
                error = delta.error or "" if delta.finish_reason is FinishReason.ERROR else ""
                yield Came(len(delta.token_ids), delta.cached_tokens, error)

    return ask
