"""The port for the cluster itself: probes, metrics, and what a scaler may ask. Clients have another one."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from llmservice_api.demand_lease import ServiceDemand
from llmservice_gateway.app import Gateway

PORT = 8081


def application(
    gateway: Gateway, unready: Callable[[], str], others: Callable[[str], ServiceDemand]
) -> web.Application:
    """`unready` says why no requests should come, empty = they may; `others` what other gateways have of a service."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why = unready()
        return web.Response(text=f"{why}\n", status=503) if why else web.Response(text="ok\n")

    async def scaling(request: web.Request) -> web.Response:
        """For KEDA's metrics-api scaler (`valueLocation: queueDepth`); all gateways together."""
        name = f"{request.match_info['namespace']}/{request.match_info['name']}"
        rooms = gateway.proxy.rooms
        if name not in rooms.table.backends:
            return web.json_response({"error": f"There is no service {name}."}, status=404)
        mine, theirs = rooms.demand(name), others(name)
        held, in_flight = mine.held + theirs.held, mine.in_flight + theirs.in_flight
        return web.json_response({"queueDepth": held + in_flight, "held": held, "inFlight": in_flight})

    app = web.Application()
    for path in ("/livez", "/healthz"):
        app.router.add_get(path, livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", gateway.told)
    app.router.add_get("/scaling/{namespace}/{name}", scaling)
    return app
