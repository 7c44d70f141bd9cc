"""The processes of ours in `make bench-gateway`: scripted engine, gateway, a plain proxy of aiohttp, a bare splice.

`python -m bench.gateway.roles ROLE ENGINE_PORT` prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from bench.gateway.engine import Engine
from bench.gateway.splice import ClientHalf
from llmservice_gateway.app import Gateway
from llmservice_gateway.loop import new_event_loop
from llmservice_gateway.routing import Backend, Replica, Table
from llmservice_runtime.wire.server import ApiRunner

BACKLOG = 1024


def plain_proxy(engine: int) -> web.Application:
    """What one would write with aiohttp: read the body, ask, write what comes."""
    app = web.Application()

    async def post(request: web.Request) -> web.StreamResponse:
        url = f"http://127.0.0.1:{engine}{request.path}"
        async with app[SESSION].post(url, data=await request.read()) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            return response

    async def lifetime(app: web.Application) -> Any:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app[SESSION]:
            yield

    app.router.add_post("/{path:.*}", post)
    app.cleanup_ctx.append(lifetime)
    return app


SESSION = web.AppKey("session", aiohttp.ClientSession)


def gateway(engine: int) -> web.Application:
    """Ours, with one replica."""
    gc.freeze()  # as its own main does
    made = Gateway()
    replica = Replica("bench-0", f"http://127.0.0.1:{engine}")
    made.proxy.publish(Table({"apps/bench": Backend("apps", "bench", (replica,))}))
    return made.application()


async def serve(role: str, engine: int) -> None:
    """Until it is ended."""
    if role in ("engine", "splice"):
        made, port = (Engine, engine) if role == "engine" else (partial(ClientHalf, engine), 0)
        server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", port, backlog=BACKLOG)
        print(server.sockets[0].getsockname()[1], flush=True)
    else:
        app = gateway(engine) if role == "ours" else plain_proxy(engine)
        runner = ApiRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
        print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    loops = asyncio.new_event_loop if sys.argv[1] == "aiohttp" else new_event_loop
    with asyncio.Runner(loop_factory=loops) as main:
        main.run(serve(sys.argv[1], int(sys.argv[2])))
