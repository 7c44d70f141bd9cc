"""Probes and metrics over HTTP: /livez, /readyz (with the problems as text), /metrics, and /scaling of the leader."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmservice_api.adapters import AdapterState
from llmservice_operator.control.health import Health
from llmservice_operator.control.work import Work
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.listening import in_url, listening

PORT = 8081
BACKLOG = 128


class _Numbers(Collector):
    def __init__(self, health: Health, work: Callable[[], Work | None]) -> None:
        self._health = health
        self._work = work

    def collect(self) -> Iterable[Metric]:
        leader = GaugeMetricFamily("llmservice_operator_leader", "1 while this replica does the work.")
        leader.add_metric([], float(self._health.leading))
        yield leader
        if (work := self._work()) is None:
            return
        requests = CounterMetricFamily(
            "llmservice_operator_api_requests", "Requests sent to the API server.", labels=["verb", "kind"]
        )
        for (verb, kind), count in work.client.counts.items():
            requests.add_metric([verb, kind], count)
        passes = CounterMetricFamily("llmservice_operator_reconciles", "Passes over a service.", labels=["result"])
        for result, count in work.passes.results.items():
            passes.add_metric([result], count)
        waiting = GaugeMetricFamily("llmservice_operator_queue_length", "Services that wait, due or not.")
        waiting.add_metric([], len(work.passes.queue))
        restarts = CounterMetricFamily("llmservice_operator_watch_restarts", "Times the watches had to begin anew.")
        restarts.add_metric([], work.source.restarts)
        unreadable = CounterMetricFamily(
            "llmservice_operator_unreadable_objects", "Objects that were left out; the log names them.", labels=["kind"]
        )
        for kind, count in work.cache.unreadable.counts.items():
            unreadable.add_metric([kind], count)
        ready = GaugeMetricFamily(
            "llmservice_operator_service_ready", "1 while a service is Ready.", labels=["namespace", "name"]
        )
        for key, is_ready in work.ready.items():
            ready.add_metric(key, float(is_ready))
        adapters = GaugeMetricFamily(
            "llmservice_operator_service_adapters",
            "Adapters of a service that are in this state.",
            labels=["namespace", "name", "state"],
        )
        for key, states in work.adapters.items():
            for state in AdapterState if states else ():
                adapters.add_metric([*key, state], states[state])
        others = GaugeMetricFamily(
            "llmservice_operator_services_of_others",
            "Services that are left to another installation.",
            labels=["installation"],
        )
        for installation, count in work.rivals.left().items():
            others.add_metric([installation], count)
        yield from (requests, passes, waiting, restarts, unreadable, ready, adapters, others)
        yield from work.passes.seconds.collect()


def _listener(host: str, port: int) -> socket.socket:
    try:
        return listening(host, port, BACKLOG)
    except OSError as error:
        said = f"The operator can't listen on {in_url(host)}:{port}: {os.strerror(error.errno or 0)}."
        raise UserError(said, "Choose another --port or --host.", FailureClass.PORT_IN_USE) from error


@asynccontextmanager
async def probes(health: Health, work: Callable[[], Work | None], host: str, port: int) -> AsyncIterator[int]:
    """Serve until left; gives the port, which is a free one when 0 was asked for."""
    registry = CollectorRegistry()
    registry.register(_Numbers(health, work))

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if health.alive else web.Response(status=503, text="silence\n")

    async def readyz(_: web.Request) -> web.Response:
        if health.ready:
            return web.Response(text="leading\n" if health.leading else "standing by\n")
        lines = [f"{name}: {message}\n" for name, message in sorted(health.problems.items())]
        return web.Response(status=503, text="".join(lines))

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def scaling(request: web.Request) -> web.Response:
        """What was decided about a service by demand, and why."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if not health.leading or (leader := work()) is None:
            return web.json_response({"error": "this replica stands by; ask the leader"}, status=503)
        if (found := leader.scaling.explain((namespace, name))) is None:
            said = f"demand decides nothing about {namespace}/{name}"
            return web.json_response({"error": said}, status=404)
        return web.json_response(found)

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    app.add_routes([web.get("/scaling/{namespace}/{name}", scaling)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, _listener(host, port)).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
