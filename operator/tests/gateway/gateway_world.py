"""A real gateway in front of scripted runtimes, all in this process, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import web

from llmservice_gateway.app import Gateway
from llmservice_gateway.balance import ranked
from llmservice_gateway.keys.door import Door
from llmservice_gateway.prefix import prefix_key
from llmservice_gateway.proxy import Limits
from llmservice_gateway.routing import Backend, Replica, Table
from llmservice_runtime.wire.server import ApiRunner

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(stack: AsyncExitStack, app: web.Application) -> str:
    runner = ApiRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def raw_server(stack: AsyncExitStack, talk: Talk) -> str:
    """A server below HTTP: `talk` has each connection until it returns, or until the stack closes."""
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await talk(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            running.discard(task)

    async def end() -> None:
        server.close()
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    stack.push_async_callback(end)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Runtime:
    """A scripted runtime: `handler` answers every POST; `seen` are the paths and bodies it was sent."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.seen: list[tuple[str, bytes]] = []
        self.cancelled = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.path, await request.read()))
        try:
            return await self.handler(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class World:
    def __init__(self, stack: AsyncExitStack, door: Door | None = None, *, console: bool = False) -> None:
        self.stack = stack
        self.second = ""
        self.lines: list[bytes] = []
        self.gateway = Gateway(
            Limits(connect_seconds=20, body_bytes=1_000_000, keep_seconds=0.5, hold_seconds=0.5),
            access=self.lines.append,
            door=door,
            console=console,
        )
        self.url = ""

    async def open(self) -> None:
        self.url = await serve(self.stack, self.gateway.application())
        self.client = await self.stack.enter_async_context(aiohttp.ClientSession())

    async def runtime(self, handler: Handler) -> Runtime:
        runtime = Runtime(handler)
        app = web.Application()
        app.router.add_post("/{path:.*}", runtime.answer)
        runtime.url = await serve(self.stack, app)
        return runtime

    def impatient(self) -> None:
        """Silence is noticed soon. Only for tests of it: on a busy machine much is silent for so long."""
        self.gateway.proxy.limits = replace(self.gateway.proxy.limits, idle_seconds=0.3)

    def keeping(self) -> None:
        """Idle connections to engines stay: on a busy machine a client's next request may come long after."""
        self.gateway.proxy._engines._idle_seconds = 60.0

    def publish(self, *backends: Backend) -> None:
        self.gateway.proxy.publish(Table({backend.full_name: backend for backend in backends}))

    async def service(self, *handlers: Handler, name: str = "demo") -> list[Runtime]:
        """One service `apps/NAME`, a replica per handler; what `chat` sends belongs to the first, then to the next."""
        runtimes = [await self.runtime(handler) for handler in handlers]
        names = ranked(prefix_key({"messages": []}), [f"{name}-{n}" for n in range(len(handlers))])
        replicas = tuple(Replica(*each) for each in zip(names, (runtime.url for runtime in runtimes), strict=True))
        self.publish(*self.gateway.proxy.table.backends.values(), Backend("apps", name, replicas))
        return runtimes

    async def chat(self, model: str = "demo", **fields: Any) -> aiohttp.ClientResponse:
        return await self.client.post(
            f"{self.url}/v1/chat/completions", json={"model": model, "messages": [], **fields}
        )


def stream(*parts: bytes, then: str = "end", headers: dict[str, str] | None = None) -> Handler:
    """Sends `parts` as an event stream, one write each; then `end`s, `die`s (the connection breaks) or `stall`s."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", **(headers or {})})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.01)
        if then == "die":
            assert request.transport is not None
            request.transport.abort()
        elif then == "stall":
            await asyncio.Event().wait()
        return response

    return handler


def answer(body: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response(
            {"object": "chat.completion"} if body is None else body, status=status, headers=headers
        )

    return handler


async def die(request: web.Request) -> web.StreamResponse:
    """The replica ends before it answers."""
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


async def stall(_: web.Request) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    raise AssertionError
