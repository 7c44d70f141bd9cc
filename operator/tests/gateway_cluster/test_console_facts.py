"""What the console shows of a cluster: Events, replicas as supervisors say, the operator's reasons; and faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from cluster_objects import endpoint, endpoint_slice, llmservice  # type: ignore[import-not-found]
from cluster_world import Here, gateway, until  # type: ignore[import-not-found]
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]
from gateway_world import serve  # type: ignore[import-not-found]

from llmservice_gateway.cluster.console import ClusterFacts
from llmservice_kube.kinds import ENDPOINT_SLICE, EVENT, LEASE, LLM_SERVICE, POD, Json

MANAGED = {"scaling": {"mode": "Managed", "maxReplicas": 3}}


class Told:
    """A port at which a supervisor and an operator answer what the test says."""

    def __init__(self) -> None:
        self.body: Any = {}
        self.status = 200
        self.port = 0

    async def open(self, stack: AsyncExitStack) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response(self.body, status=self.status)

        app = web.Application()
        app.router.add_get("/{path:.+}", answer)
        self.port = urlsplit(await serve(stack, app)).port or 0


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    async with AsyncExitStack() as stack:
        made = Told()
        await made.open(stack)
        yield made


def facts_of(here: Here, told: Told) -> ClusterFacts:
    mine = here.cluster.facts
    return ClusterFacts(mine._client, mine._cache, "llm", here.cluster.others, told.port, told.port)


def event(name: str, about: str, at: str, kind: str = "LLMService") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "apps"},
        "involvedObject": {"kind": kind, "name": about, "namespace": "apps"},
        "type": "Normal",
        "reason": "Scaled",
        "message": f"About {about}.",
        "lastTimestamp": at,
    }


async def test_events_of_the_service_the_newest_first(api: FakeApi, told: Told) -> None:
    api.put(llmservice(), LLM_SERVICE)
    api.put(event("a", "demo", "2026-01-01T00:00:00Z"), EVENT)
    api.put(event("b", "demo", "2026-01-02T00:00:00Z"), EVENT)
    async with gateway(api) as here:
        await until(lambda: here.table.backends)
        found = await facts_of(here, told).events("apps/demo")
    assert [one["at"][:10] for one in found.body] == ["2026-01-02", "2026-01-01"]


async def test_without_the_right_it_says_so(api: FakeApi, told: Told) -> None:
    api.put(llmservice(), LLM_SERVICE)
    async with gateway(api) as here:
        await until(lambda: here.table.backends)
        api.fault = lambda method, path: refusal(403, "Forbidden") if "/events" in path else None
        found = await facts_of(here, told).events("apps/demo")
    assert found.body == [] and "Events can't be read" in found.note


async def test_replicas_that_load_say_how_far_they_are(api: FakeApi, told: Told) -> None:
    api.put(llmservice(), LLM_SERVICE)
    api.put(endpoint_slice(endpoint("demo-1", "127.0.0.1", ready=False)), ENDPOINT_SLICE)
    told.body = {"phase": "Loading", "percent": 40, "eta_seconds": 3.2, "running": 0, "restarts": 1}
    async with gateway(api) as here:
        await until(lambda: here.table.backends)
        (found,) = await facts_of(here, told).replicas("apps/demo")
    assert found["state"] == "Starting"
    assert (found["phase"], found["percent"], found["etaSeconds"], found["restarts"]) == ("Loading", 40, 4, 1)


@pytest.mark.parametrize(
    "body", [[], "text", {"percent": "x" * 99, "phase": ["a"], "last_failure": 3}, {"running": -1}]
)
async def test_a_pod_that_says_anything_else_breaks_nothing(api: FakeApi, told: Told, body: Any) -> None:
    api.put(llmservice(), LLM_SERVICE)
    api.put(endpoint_slice(endpoint("demo-1", "127.0.0.1")), ENDPOINT_SLICE)
    told.body = body
    async with gateway(api) as here:
        await until(lambda: here.table.backends)
        (found,) = await facts_of(here, told).replicas("apps/demo")
    assert (found["state"], found["running"], found["percent"]) == ("Ready", 0, None)


async def test_the_operator_that_leads_explains(api: FakeApi, told: Told) -> None:
    api.put(llmservice(spec=MANAGED), LLM_SERVICE)
    lease = {"metadata": {"name": "llmservice-operator", "namespace": "llm"}, "spec": {"holderIdentity": "op-1_x"}}
    api.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease}, LEASE)
    pod = {"metadata": {"name": "op-1", "namespace": "llm"}, "status": {"podIP": "127.0.0.1"}}
    api.put({"apiVersion": "v1", "kind": "Pod", **pod}, POD)
    told.body = {"service": "apps/demo", "replicas": 1, "changes": []}
    async with gateway(api) as here:
        await until(lambda: here.table.backends)
        facts = facts_of(here, told)
        assert (await facts.explain("apps/demo")).body == told.body
        told.body = {"error": "demand decides nothing about apps/demo"}
        assert "demand decides nothing" in (await facts.explain("apps/demo")).note


@pytest.mark.parametrize(
    ("spec", "note"),
    [
        ({}, "no spec.scaling"),
        ({"scaling": {"mode": "External", "maxReplicas": 3}}, "autoscaler of its own"),
        (MANAGED, "No operator leads"),
    ],
)
async def test_where_demand_decides_nothing_it_says_why(api: FakeApi, told: Told, spec: Json, note: str) -> None:
    api.put(llmservice(spec=spec), LLM_SERVICE)
    async with gateway(api) as here:
        await until(lambda: here.table.backends)
        assert note in (await facts_of(here, told).explain("apps/demo")).note
