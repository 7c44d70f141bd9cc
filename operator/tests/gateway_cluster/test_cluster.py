"""The gateway on a scripted API server: what it serves, what it tells, and what faults change of that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from cluster_objects import endpoint_slice, llmservice  # type: ignore[import-not-found]
from cluster_world import gateway, until  # type: ignore[import-not-found]
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]
from gateway_world import serve  # type: ignore[import-not-found]

from llmservice_api.demand_lease import ServiceDemand, encode, lease
from llmservice_gateway.app import Gateway
from llmservice_gateway.cluster import directory
from llmservice_gateway.places import Capacity
from llmservice_kube import mirror, watching
from llmservice_kube.kinds import ENDPOINT_SLICE, LEASE, LLM_SERVICE


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(mirror, "GAP_SECONDS", 0.01)
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(directory, "GATHER_SECONDS", 0.001)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


async def test_services_and_endpoints_come_and_go(api: FakeApi) -> None:
    api.put(llmservice())
    async with gateway(api) as here:
        await until(lambda: "apps/demo" in here.table.backends)
        made = await here.endpoint("a", ready=True)
        await until(lambda: here.replicas() == ["a"])
        assert (await here.world.chat("apps/demo")).status == 200
        async with here.world.client.post(
            f"{here.world.url}/apps/demo/v1/chat/completions", json={"model": "apps/demo", "messages": []}
        ) as response:
            assert response.status == 200
        made["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
        api.put(made, ENDPOINT_SLICE)
        await until(lambda: here.replicas() == [])
        api.remove(LLM_SERVICE, "apps", "demo")
        await until(lambda: here.table.backends == {})
        assert (await here.world.chat("apps/demo")).status == 404


async def test_it_is_ready_once_everything_is_known_and_stays_so_without_a_server(api: FakeApi) -> None:
    api.put(llmservice())
    api.fault = lambda method, path: refusal(503) if path.endswith("/endpointslices") else None
    async with gateway(api) as here:
        await until(lambda: api.requests.count(("GET", "/apis/discovery.k8s.io/v1/endpointslices")) > 2)
        assert (await here.inside("/readyz"))[0] == 503 and (await here.inside("/livez"))[0] == 200
        api.fault = lambda method, path: None
        await here.endpoint("a")
        await until(lambda: here.replicas() == ["a"])
        assert (await here.inside("/readyz"))[0] == 200
        api.fault = lambda method, path: refusal(500)
        api.hang_up()
        asked = len(api.requests)
        await until(lambda: len(api.requests) > asked + 5)
        assert (await here.world.chat("apps/demo")).status == 200
        assert (await here.inside("/readyz"))[0] == 200


async def test_a_deletion_that_is_lost_with_the_history_is_found(api: FakeApi) -> None:
    api.put(llmservice())
    api.put(llmservice("other"))
    async with gateway(api) as here:
        await here.endpoint("a")
        await until(lambda: here.replicas() == ["a"] and "apps/other" in here.table.backends)
        api.mute_watches = True
        api.remove(ENDPOINT_SLICE, "apps", "demo-a")
        api.remove(LLM_SERVICE, "apps", "other")
        api.compact()
        api.mute_watches = False
        api.hang_up()
        await until(lambda: here.replicas() == [] and "apps/other" not in here.table.backends)


async def test_a_request_waits_for_a_replica_and_the_lease_tells_of_it(api: FakeApi) -> None:
    api.put(llmservice(spec={"replicas": 0, "scaling": {"minReplicas": 0, "maxReplicas": 1}}, reason="Idle"))
    async with gateway(api) as here:
        await until(lambda: "apps/demo" in here.table.backends and (LEASE, "llm", "me") in api.objects)
        asked = asyncio.create_task(here.world.chat("apps/demo"))
        await until(lambda: here.told().get("apps/demo", ServiceDemand()).held == 1)
        made = api.objects[LEASE, "llm", "me"]
        assert made["metadata"]["labels"] == {
            "app.kubernetes.io/instance": "x",
            "app.kubernetes.io/component": "gateway",
        }
        assert made["spec"]["holderIdentity"] == "me" and made["spec"]["leaseDurationSeconds"] == 15
        assert json.loads((await here.inside("/scaling/apps/demo"))[1]) == {"queueDepth": 1, "held": 1, "inFlight": 0}
        await here.endpoint("a")
        assert (await asked).status == 200
        await until(lambda: not here.told()["apps/demo"].busy)
        told = here.told()["apps/demo"]
        assert told.arrivals == 1 and told.arrived_tokens > 0
        await here.cluster.end()
        assert (LEASE, "llm", "me") not in api.objects


async def test_what_is_held_of_a_service_that_goes_or_is_stopped_is_told_at_once(api: FakeApi) -> None:
    api.put(llmservice())
    api.put(llmservice("other"))
    async with gateway(api) as here:
        await until(lambda: len(here.table.backends) == 2)
        asked = [asyncio.create_task(here.world.chat(name)) for name in ("apps/demo", "apps/other")]
        await until(lambda: here.world.gateway.proxy.rooms.held == 2)
        api.remove(LLM_SERVICE, "apps", "demo")
        api.put(llmservice("other", spec={"replicas": 0}))
        gone, stopped = await asyncio.wait_for(asyncio.gather(*asked), 20)
        assert gone.status == 404
        body = await stopped.json()
        assert (stopped.status, body["error"]["code"]) == (503, "Stopped")
        assert "kubectl scale llmsvc other -n apps --replicas 1" in body["error"]["message"]


async def test_an_object_of_an_unforeseen_shape_costs_only_itself(api: FakeApi) -> None:
    api.put(llmservice())
    broken = llmservice("broken")
    broken["status"] = {"conditions": [{"type": "Ready"}], "plan": "none"}
    api.put(broken)
    api.put({**endpoint_slice(name="demo-x"), "endpoints": [{"targetRef": {"kind": "Pod"}}]}, ENDPOINT_SLICE)
    async with gateway(api) as here:
        await here.endpoint("a")
        await until(lambda: here.replicas() == ["a"])
        assert "apps/broken" not in here.table.backends
        api.put(llmservice("broken"))
        await until(lambda: "apps/broken" in here.table.backends)


async def test_gateways_share_what_may_wait_and_the_places_by_what_each_has(api: FakeApi) -> None:
    plan = {"maxSequences": 8, "kvTokens": 8000}
    api.put(llmservice(plan=plan, spec={"endpoint": {"maxQueuedRequests": 100}}))
    async with gateway(api) as here:
        await until(lambda: "apps/demo" in here.table.backends)
        assert here.table.backends["apps/demo"].max_held == 100
        rooms = here.world.gateway.proxy.rooms
        theirs = encode({"apps/demo": ServiceDemand(held=2, in_flight=1)})
        now = here.cluster.keeper._clock()
        api.put(lease("llm", "you", theirs, now=now, began=now, labels={"app.kubernetes.io/instance": "x"}), LEASE)
        api.put(lease("llm", "foreign", theirs, now=now, began=now, labels={}), LEASE)
        await until(lambda: here.table.backends["apps/demo"].max_held == 50)
        assert here.table.backends["apps/demo"].capacity == Capacity(8, 8000)
        assert rooms.share("apps/demo") == 1.0, "who has none needs none"
        asked = asyncio.create_task(here.world.chat("apps/demo"))
        await until(lambda: rooms.held == 1)
        assert rooms.share("apps/demo") == 0.25
        assert json.loads((await here.inside("/scaling/apps/demo"))[1]) == {"queueDepth": 4, "held": 3, "inFlight": 1}
        api.remove(LEASE, "llm", "you")
        await until(lambda: rooms.share("apps/demo") == 1.0)
        await until(lambda: here.table.backends["apps/demo"].max_held == 100)
        asked.cancel()
        await asyncio.wait([asked])


async def test_the_port_for_the_cluster_is_not_that_of_clients(api: FakeApi) -> None:
    async with gateway(api) as here:
        assert (await here.inside("/scaling/apps/nobody"))[0] == 404
        assert "llmservice_gateway_in_flight" in (await here.inside("/metrics"))[1]
        app = Gateway().application(alone=False)
        async with AsyncExitStack() as stack:
            url = await serve(stack, app)
            for path in ("/metrics", "/healthz", "/scaling/apps/demo"):
                async with aiohttp.ClientSession() as session, session.get(url + path) as response:
                    assert response.status == 404, path
