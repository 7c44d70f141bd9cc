"""The end of a gateway: nothing that it has, or gets in time, is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from gateway_world import Runtime, World, answer  # type: ignore[import-not-found]

from llmservice_gateway.app import Gateway
from llmservice_gateway.cluster.drain import Ending
from llmservice_gateway.proxy import Limits
from llmservice_gateway.routing import Backend, Replica
from llmservice_runtime.wire.server import ApiRunner

CHAT = {"model": "apps/demo", "messages": []}


class Here:
    def __init__(self, gateway: Gateway, ending: Ending, over: asyncio.Task[None], url: str, runtime: Runtime) -> None:
        self.gateway = gateway
        self.ending = ending
        self.over = over
        self.url = url
        self.runtime = runtime

    def serve(self, *replicas: Replica) -> None:
        World.publish(self, Backend("apps", "demo", replicas))


@asynccontextmanager
async def gateway(accept_seconds: float, drain_seconds: float = 30.0) -> AsyncIterator[Here]:
    async with AsyncExitStack() as stack:
        world = World(stack)
        runtime = await world.runtime(answer())
        made, ending = Gateway(Limits(connect_seconds=1)), Ending(accept_seconds, drain_seconds)
        app = made.application(alone=False)
        ending.closes_connections(app)
        runner = ApiRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        task = asyncio.create_task(ending.over(made.proxy, site, runner))
        stack.callback(task.cancel)
        yield Here(made, ending, task, url, runtime)


async def held(here: Here, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while here.gateway.proxy.rooms.held != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_requests_that_come_after_the_signal_are_answered_and_their_connections_closed() -> None:
    async with gateway(accept_seconds=600) as here, aiohttp.ClientSession() as session:
        here.serve(Replica("a", here.runtime.url))
        async with session.post(f"{here.url}/v1/chat/completions", json=CHAT) as response:
            assert response.status == 200 and response.headers.get("Connection") != "close"
        here.ending.ask()
        for _ in range(3):
            async with session.post(f"{here.url}/v1/chat/completions", json=CHAT) as response:
                assert response.status == 200 and response.headers["Connection"] == "close"
        assert not here.over.done()


async def test_what_waits_is_waited_for_and_nothing_new_is_taken() -> None:
    async with gateway(accept_seconds=0) as here, aiohttp.ClientSession() as session:
        here.serve()
        asked = asyncio.create_task(session.post(f"{here.url}/v1/chat/completions", json=CHAT))
        await held(here)
        idle, back = await asyncio.open_connection("127.0.0.1", int(here.url.rpartition(":")[2]))
        here.ending.ask()
        assert await asyncio.wait_for(idle.read(), 30) == b"", "an idle connection is closed"
        back.close()
        await back.wait_closed()
        async with aiohttp.ClientSession() as another:
            with pytest.raises(aiohttp.ClientConnectorError):
                await another.get(f"{here.url}/v1/models")
        assert not here.over.done()
        here.serve(Replica("a", here.runtime.url))
        async with await asked as response:
            assert response.status == 200
        await asyncio.wait_for(here.over, 30)


async def test_what_takes_too_long_is_told() -> None:
    async with gateway(accept_seconds=0, drain_seconds=0.2) as here, aiohttp.ClientSession() as session:
        here.serve()
        asked = asyncio.create_task(session.post(f"{here.url}/v1/chat/completions", json=CHAT))
        await held(here)
        here.ending.ask()
        await asyncio.wait_for(here.over, 30)
        response = await asked
        assert response.status == 503 and (await response.json())["error"]["code"] == "draining"
