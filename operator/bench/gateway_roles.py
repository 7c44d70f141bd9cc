"""The processes of `make bench-gateway`: a scripted engine, our gateway, and a plain proxy of aiohttp.

`python -m bench.gateway_roles ROLE ENGINE_PORT` prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
from aiohttp import web

from bench.gateway import CHUNKS, PAUSE
from llmservice_gateway.app import Gateway
from llmservice_gateway.loop import new_event_loop
from llmservice_gateway.routing import Backend, Replica, Table
from llmservice_runtime.wire.server import ApiRunner

EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)


class Engine(asyncio.Protocol):
    """Answers every request with the same stream, a chunk for each event, as engines do."""

    def __init__(self) -> None:
        self._raw = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._raw += data
        head, found, body = self._raw.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
            self._raw = b""
            self._task = asyncio.get_running_loop().create_task(self._answer())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    async def _answer(self) -> None:
        send = self._transport.write
        send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
        at = asyncio.get_running_loop().time()
        for _ in range(CHUNKS):
            send(chunk)
            at += PAUSE
            await asyncio.sleep(at - asyncio.get_running_loop().time())
        send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


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
    made = Gateway()
    replica = Replica("bench-0", f"http://127.0.0.1:{engine}")
    made.proxy.publish(Table({"apps/bench": Backend("apps", "bench", (replica,))}))
    return made.application()


async def serve(role: str, engine: int) -> None:
    """Until it is ended."""
    if role == "engine":
        server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", engine)
        print(server.sockets[0].getsockname()[1], flush=True)
    else:
        app = gateway(engine) if role == "ours" else plain_proxy(engine)
        runner = ApiRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    loops = asyncio.new_event_loop if sys.argv[1] == "aiohttp" else new_event_loop
    with asyncio.Runner(loop_factory=loops) as main:
        main.run(serve(sys.argv[1], int(sys.argv[2])))
