"""What the supervisor's port answers: probes for the kubelet and `llmservice up`, status for people, metrics."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from llmservice_runtime.contract import metrics as names
from llmservice_runtime.contract.adapters import AdapterStatus
from llmservice_runtime.contract.listening import is_loopback
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.state import State
from llmservice_runtime.supervisor.verify import Loaded
from llmservice_runtime.wire.callers import Callers, protect


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What the probes look at: the state now, the fixed settings, and the pids."""

    settings: RuntimeSettings
    state: Callable[[], State]
    engine_pid: Callable[[], int | None]
    supervisor_pid: int
    loaded: Callable[[], Loaded | None] = lambda: None
    """The last load, held against the plan."""
    adapters: Callable[[], Sequence[AdapterStatus]] = tuple
    """The LoRA adapters that it is to serve."""


@asynccontextmanager
async def answering(view: View, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on a listening socket within the context."""
    runner = web.AppRunner(application(view), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


def application(view: View) -> web.Application:
    """Routes /livez, /readyz, /startupz, /status, /metrics."""
    app = web.Application()
    if is_loopback(view.settings.host):
        protect(app, Callers())

    async def livez(_: web.Request) -> web.Response:
        state = view.state()
        return _plain(state.live, "live" if state.live else _why_not(state))

    async def readyz(_: web.Request) -> web.Response:
        state = view.state()
        return _plain(state.ready, "ready" if state.ready else _why_not(state))

    async def startupz(_: web.Request) -> web.Response:
        state = view.state()
        return web.json_response(startup(state, time.monotonic()), status=200 if state.ready_at is not None else 503)

    async def status(_: web.Request) -> web.Response:
        return web.json_response(describe(view, time.monotonic()))

    async def metrics(_: web.Request) -> web.Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(view))
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    for path, handler in (
        ("/livez", livez),
        ("/readyz", readyz),
        ("/startupz", startupz),
        ("/status", status),
        ("/metrics", metrics),
    ):
        app.router.add_get(path, handler)
    return app


def startup(state: State, now: float) -> dict[str, object]:
    """Phase, percentage and seconds left of a start; null where they are not known."""
    elapsed = now - state.started_at
    if state.ready_at is not None:
        return {
            "phase": state.phase.value,
            "percent": 100,
            "elapsed_seconds": _round(state.last_load_seconds),
            "eta_seconds": 0,
        }
    left: float | None = None
    if state.alive and state.last_load_seconds is not None:
        left = max(0.0, state.last_load_seconds - elapsed)
    elif state.alive and state.progress:
        in_phase = now - state.phase_at
        left = in_phase * (1 - state.progress) / state.progress
    return {
        "phase": state.phase.value,
        "percent": None if state.progress is None else round(100 * state.progress),
        "elapsed_seconds": _round(elapsed),
        "eta_seconds": _round(left),
        "detail": state.detail,
    }


def describe(view: View, now: float) -> dict[str, object]:
    """Everything a person or `llmservice ps` asks about a replica."""
    state = view.state()
    failure, load = state.last_failure, view.loaded()
    return {
        "model": view.settings.model_name,
        "engine": view.settings.engine.value,
        "supervisor_pid": view.supervisor_pid,
        "engine_pid": view.engine_pid(),
        "host": view.settings.host,
        "port": state.port or None,
        "live": state.live,
        "ready": state.ready,
        "draining": state.stopping,
        "running": state.running,
        "waiting": state.waiting,
        "kv_used": state.kv_used,
        "steps": state.steps,
        "seconds_since_work": None if state.worked_at is None else _round(now - state.worked_at),
        "seconds_since_progress": _round(now - state.progress_at) if state.ready_at is not None else None,
        "restarts": state.restarts,
        "retry_in_seconds": None if state.retry_at is None else _round(max(0.0, state.retry_at - now)),
        "load_phases": {name: _round(seconds) for name, seconds in state.load_phases.items()},
        "load": load.as_json() if load else None,
        "adapters": [adapter.as_json() for adapter in view.adapters()],
        "last_failure": dataclasses.asdict(failure) if failure else None,
        **startup(state, now),
    }


def _why_not(state: State) -> str:
    if state.stopping:
        return "draining"
    if state.wedged and state.last_failure is not None:
        return f"{state.last_failure.failure.value}: {state.last_failure.message}"
    if state.phase is Phase.FAILED:
        return f"failed: {state.detail}"
    percent = "" if state.progress is None else f" {100 * state.progress:.0f} %"
    return f"{state.phase.value}{percent}"


def _plain(good: bool, text: str) -> web.Response:
    return web.Response(text=text + "\n", status=200 if good else 503)


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


class _Families(Collector):
    """The supervisor's metrics, built when they are scraped."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterable[Metric]:
        state = self._view.state()
        labels, values = ["model_name", "engine"], [self._view.settings.model_name, "0"]
        draining = GaugeMetricFamily(names.DRAINING, "1 while the replica drains.", labels=labels)
        draining.add_metric(values, float(state.stopping))
        yield draining
        restarts = CounterMetricFamily(names.ENGINE_RESTARTS, "Engine starts after a failure.", labels=labels)
        restarts.add_metric(values, state.restarts)
        yield restarts
        phases = GaugeMetricFamily(
            names.LOAD_PHASE_SECONDS, "Seconds spent in each phase of the last start.", labels=[*labels, "phase"]
        )
        for phase, seconds in state.load_phases.items():
            phases.add_metric([*values, phase], seconds)
        yield phases
