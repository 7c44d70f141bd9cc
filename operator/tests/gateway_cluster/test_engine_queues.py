"""What engines say of their own queues, and what comes of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from cluster_objects import endpoint, endpoint_slice, llmservice  # type: ignore[import-not-found]
from cluster_world import gateway, until  # type: ignore[import-not-found]
from fake_api import fake_api  # type: ignore[import-not-found]
from gateway_world import serve  # type: ignore[import-not-found]
from yarl import URL

from llmservice_gateway.cluster import queues
from llmservice_gateway.cluster.queues import waiting_in
from llmservice_gateway.routing import Replica
from llmservice_kube.kinds import ENDPOINT_SLICE

METRICS = """# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a/b"} 2.0
vllm:num_requests_waiting{engine="1",model_name="a/b"} 5.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 100.0
vllm:num_requests_running 3.0
"""


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (METRICS, 7),
        ("vllm:num_requests_waiting 4", 4),
        ("", None),
        ("vllm:num_requests_waiting NaN", None),
        ("vllm:num_requests_waiting -1", None),
        ("vllm:num_requests_waiting +Inf", None),
        ("vllm:num_requests_waiting many", None),
        ("<html>vllm:num_requests_waiting 4</html>", None),
    ],
)
def test_what_waits_is_read_from_metrics(text: str, count: int | None) -> None:
    assert waiting_in(text) == count


async def test_a_replica_whose_queue_others_fill_is_given_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "LOOK_SECONDS", 0.01)
    said, go, asked = [METRICS], asyncio.Event(), 0

    async def metrics(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(text=said[0])

    async def chat(_: web.Request) -> web.Response:
        await go.wait()
        return web.json_response({"object": "chat.completion"})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_post("/v1/chat/completions", chat)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(fake_api())
        url = URL(await serve(stack, app))
        api.put(llmservice(plan={"maxSequences": 2, "kvTokens": 10**6}))
        api.put(endpoint_slice(endpoint("a", url.host), port=url.port), ENDPOINT_SLICE)
        here = await stack.enter_async_context(gateway(api))
        await until(lambda: here.replicas() == ["a"])
        assert not asked, "nobody is asked for what has no requests"
        proxy = here.world.gateway.proxy
        requests = [asyncio.create_task(here.world.chat("apps/demo", n=1))]
        await until(lambda: here.table.backends["apps/demo"].replicas[0].waiting == 7)
        requests.append(asyncio.create_task(here.world.chat("apps/demo", n=1)))
        await until(lambda: proxy.rooms.held == 1)
        assert proxy.running == 1
        said[0] = "nonsense"
        await until(lambda: proxy.running == 2 and not proxy.rooms.held)
        go.set()
        for response in await asyncio.wait_for(asyncio.gather(*requests), 60):
            assert response.status == 200


async def test_metrics_that_come_in_pieces_are_read_to_their_end() -> None:
    async def metrics(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in ["# HELP x\n" * 20_000, METRICS[:80], METRICS[80:]]:
            await response.write(line.encode())
            await asyncio.sleep(0.01)
        return response

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with AsyncExitStack() as stack:
        url = await serve(stack, app)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        assert await queues._ask(session, Replica("a", url)) == 7
