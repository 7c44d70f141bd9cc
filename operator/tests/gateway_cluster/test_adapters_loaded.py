"""What engines say of their adapters, and what comes of it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from cluster_objects import endpoint, endpoint_slice, llmservice  # type: ignore[import-not-found]
from cluster_world import gateway, until  # type: ignore[import-not-found]
from fake_api import fake_api  # type: ignore[import-not-found]
from gateway_world import serve  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from llmservice_gateway.cluster import loaded
from llmservice_gateway.cluster.loaded import loaded_in
from llmservice_gateway.cluster.services import backend
from llmservice_gateway.routing import Adapter
from llmservice_kube.kinds import ENDPOINT_SLICE, LLM_SERVICE

SPEC = {"adapters": [{"name": "sql", "uri": "hf://a/sql"}, {"name": "law", "uri": "hf://a/law"}]}


def listed(*entries: object) -> bytes:
    return json.dumps({"object": "list", "data": entries}).encode()


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (listed({"id": "apps/demo"}, {"id": "sql", "parent": "apps/demo"}), {"sql"}),
        (listed({"id": "apps/demo:sql", "parent": "apps/demo"}, {"id": "law", "parent": None}), {"sql"}),
        (listed({"id": "foreign", "parent": "apps/demo"}, "sql", None, {"parent": "x"}), set()),
        (listed({"id": "sql"}), set()),
        (b"[]", set()),
        (b'{"data": 3}', set()),
        (b"<html>", set()),
    ],
)
def test_what_is_loaded_is_read_from_models(body: bytes, names: set[str]) -> None:
    assert loaded_in(body, {"sql", "law"}) == names


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_whatever_a_tenant_answers_is_no_error(body: bytes) -> None:
    assert loaded_in(body, {"sql"}) <= {"sql"}


def test_what_status_says_failed_is_not_waited_for() -> None:
    said = [
        {"name": "law", "state": "Failed", "reason": "UnsupportedFormat", "message": "It is for acme/other."},
        {"name": "sql", "state": "Loading", "message": "x"},
        {"name": "gone", "state": "Failed"},
    ]
    found = backend(llmservice(spec=SPEC, status={"adapters": said}))
    assert found.adapters == (Adapter("law", "It is for acme/other."), Adapter("sql"))
    assert backend(llmservice()).adapters == ()


async def test_requests_of_an_adapter_wait_until_its_replica_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "LOOK_SECONDS", 0.01)
    said, asked = [listed({"id": "apps/demo"})], list[str]()

    async def models(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=said[0])

    async def chat(request: web.Request) -> web.Response:
        return web.json_response({"model": (await request.json())["model"]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(fake_api())
        url = URL(await serve(stack, app))
        api.put(llmservice())
        api.put(endpoint_slice(endpoint("a", url.host), port=url.port), ENDPOINT_SLICE)
        here = await stack.enter_async_context(gateway(api))
        await until(lambda: here.replicas() == ["a"])
        assert not asked, "nobody is asked for adapters whose service declares none"
        api.put(llmservice(spec=SPEC), LLM_SERVICE)
        await until(lambda: asked and here.table.backends["apps/demo"].adapters)
        waiting = asyncio.create_task(here.world.chat("apps/demo:sql"))
        await until(lambda: here.world.gateway.proxy.rooms.held == 1)
        said[0] = listed({"id": "apps/demo"}, {"id": "sql", "parent": "apps/demo"})
        response = await asyncio.wait_for(waiting, 60)
        assert response.status == 200 and (await response.json())["model"] == "sql"
        said[0] = listed({"id": "apps/demo"})
        await until(lambda: not here.table.backends["apps/demo"].replicas[0].adapters)
