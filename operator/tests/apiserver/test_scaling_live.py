"""Scaling by demand on the real API server: what is written there, by whom, and what others' writes do."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_controllers import Controllers  # type: ignore[import-not-found]
from live_world import CONFIG, make, one_pass, settle, work_in, written  # type: ignore[import-not-found]
from process import operator  # type: ignore[import-not-found]
from test_operator_process import IMAGES, holder, until  # type: ignore[import-not-found]
from test_scale import live, owners  # type: ignore[import-not-found]

from llmservice_api.demand_lease import ServiceDemand, encode, lease
from llmservice_kube.client import SCALE_MANAGER, Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import DEPLOYMENT, EVENT, LEASE, LLM_SERVICE, POD, Json
from llmservice_kube.login import Access
from llmservice_operator.control.leases import Leases
from llmservice_operator.control.work import Work
from llmservice_operator.demand.replicas import COST
from llmservice_operator.demand.replicas import Work as Told
from llmservice_operator.facts.config import Gateway as Installed

Key = tuple[str, str]
BEGAN = datetime.now(UTC)


class Gateway:
    """One that writes its Lease as the real one does."""

    def __init__(self, client: Client, namespace: str, name: str = "gateway-0") -> None:
        self.client, self.namespace, self.name = client, namespace, name

    async def tells(self, key: Key, **demand: int) -> None:
        text = encode({"/".join(key): ServiceDemand(**demand)})
        body = lease(self.namespace, self.name, text, now=datetime.now(UTC), began=BEGAN)
        query = {"fieldManager": "llmservice-gateway", "force": "true"}
        await self.client.send("apply", LEASE, LEASE.path(self.namespace, self.name), query, body)


class Term:
    """A leader whose loops do not run, on a clock of the test's."""

    def __init__(self, access: Access, client: Client, namespace: str) -> None:
        config = dataclasses.replace(CONFIG, operator_namespace=namespace, gateway=Installed("gateway", ()))
        self.namespace, self.client, self.now = namespace, client, 1000.0
        self.work: Work = work_in(access, client, namespace, config)
        self.work.scaling._clock = lambda: self.now
        self.busy: dict[str, int] = {}

    async def settle(self) -> None:
        await settle(self.work, self.client, self.namespace)

    async def turn(self, key: Key, seconds: float = 2.0, **demand: int) -> None:
        """Time passes while a gateway and all replicas tell."""
        scaling, end = self.work.scaling, self.now + seconds
        while self.now < end:
            self.now += 2.0
            text = encode({"/".join(key): ServiceDemand(**demand)})
            told = lease(self.namespace, "gateway-0", text, now=datetime.now(UTC), began=BEGAN)
            scaling.lease("MODIFIED", told)
            for pod in (await self.client.list(POD, self.namespace)).items:
                running = self.busy.get(pod["metadata"]["name"], 0)
                scaling.supervisors.told[pod["metadata"]["uid"]] = Told(running, 0, None, self.now)
            async with asyncio.TaskGroup() as tasks:
                await scaling.turn(tasks)
            if key in scaling._services and scaling._services[key].version != int(
                (await live(self.client, key))["metadata"]["resourceVersion"]
            ):
                await self.work.relist()


@asynccontextmanager
async def leading(access: Access, namespace: str) -> AsyncIterator[Term]:
    async with Client(access) as own:
        yield Term(access, own, namespace)


async def events(client: Client, namespace: str) -> set[str]:
    return {event["reason"] for event in (await client.list(EVENT, namespace)).items}


async def test_from_one_to_many_to_none_and_only_scale_is_written(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace, scaling={"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 60})
    async with leading(access, namespace) as term:
        await term.settle()
        before = await live(client, key)
        await term.turn(key, 4.0, held=10, in_flight=30)
        after = await live(client, key)
        assert after["spec"] == {**before["spec"], "replicas": 4}
        assert owners(after) == {SCALE_MANAGER: "scale"}
        await term.settle()
        deployment = await client.get(DEPLOYMENT, *key)
        assert deployment is not None and deployment["spec"]["replicas"] == 4
        status = (await live(client, key))["status"]
        assert status["scaling"]["desiredReplicas"] == 4
        assert status["scaling"]["message"].startswith("40 requests held and in flight at ")
        assert status["scaling"]["lastScaleTime"]
        await term.turn(key, 400.0)
        await term.settle()
        assert (await live(client, key))["spec"]["replicas"] == 0
        ready = next(one for one in (await live(client, key))["status"]["conditions"] if one["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("True", "Idle")
        assert {"Scaled"} <= await events(client, namespace)
        quiet = written(term.client)
        await term.turn(key, 600.0)
        await one_pass(term.work)
        assert written(term.client) == quiet, "an idle service costs no write in ten minutes"


async def test_a_new_leader_writes_nothing_until_demand_says_otherwise(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace, scaling={"minReplicas": 1, "maxReplicas": 4, "scaleDownSeconds": 60})
    async with leading(access, namespace) as first:
        await first.settle()
        await first.turn(key, 4.0, in_flight=20)
        await first.settle()
    asked = (await live(client, key))["spec"]["replicas"]
    assert asked > 1
    async with leading(access, namespace) as second:
        await second.settle()
        await second.turn(key, 50.0)
        await second.settle()
        assert written(second.client) == 0
        await second.turn(key, 50.0)
        assert (await live(client, key))["spec"]["replicas"] == 1


async def test_a_manifest_that_is_applied_again_changes_no_number_and_shows_no_difference(
    access: Access, client: Client, namespace: str
) -> None:
    manifest: Json = {
        "apiVersion": LLM_SERVICE.api_version,
        "kind": LLM_SERVICE.kind,
        "metadata": {"name": "qwen", "namespace": namespace},
        "spec": {"model": {"uri": "hf://a/b"}, "scaling": {"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 60}},
    }
    key = (namespace, "qwen")

    async def applied(**query: str) -> Json:
        path = LLM_SERVICE.path(*key)
        return await client.send("apply", LLM_SERVICE, path, {"fieldManager": "argocd", **query}, manifest)

    await applied()
    await make(client, namespace, "other")
    async with leading(access, namespace) as term:
        await term.settle()
        for demand, replicas in (({"in_flight": 60}, 4), ({}, 0), ({"held": 1}, 1)):
            await term.turn(key, 400.0 if not demand else 40.0, **demand)
            await term.settle()
            before = await live(client, key)
            assert before["spec"]["replicas"] == replicas
            dry = await applied(dryRun="All")
            assert dry["spec"] == before["spec"] and dry["metadata"]["generation"] == before["metadata"]["generation"]
            await applied()
            after = await live(client, key)
            assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_somebody_who_scales_is_overruled_with_an_event(access: Access, client: Client, namespace: str) -> None:
    key = await make(client, namespace, scaling={"maxReplicas": 4})
    async with leading(access, namespace) as term:
        await term.settle()
        await term.turn(key)
        path = LLM_SERVICE.path(key[0], key[1], "scale")
        await client.send("patch", LLM_SERVICE, path, {"fieldManager": "kubectl"}, {"spec": {"replicas": 3}})
        await term.work.relist()
        await term.turn(key)
        assert (await live(client, key))["spec"]["replicas"] == 1
        assert "ScaleOverridden" in await events(client, namespace)


async def test_busy_replicas_cost_more_before_some_are_ended(access: Access, client: Client, namespace: str) -> None:
    key = await make(client, namespace, replicas=5, scaling={"maxReplicas": 5, "scaleDownSeconds": 10})
    async with leading(access, namespace) as term:
        await term.settle()
        pods = {pod["metadata"]["name"]: pod for pod in (await client.list(POD, namespace)).items}
        replicas = sorted(
            name for name, pod in pods.items() if pod["metadata"]["labels"].get("llmservice.dev/revision")
        )
        assert len(replicas) == 5
        term.busy = {replicas[1]: 3, replicas[3]: 1}
        await term.turn(key, 30.0, in_flight=4)
        assert (await live(client, key))["spec"]["replicas"] == 1
        pods = {pod["metadata"]["name"]: pod for pod in (await client.list(POD, namespace)).items}
        costs = {name: pods[name]["metadata"].get("annotations", {}).get(COST) for name in replicas}
        assert costs == {**dict.fromkeys(replicas), replicas[1]: "3", replicas[3]: "1"}


async def test_one_claim_for_one_node_is_refused_for_several(client: Client, namespace: str) -> None:
    claim = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "1Gi"}}
    with pytest.raises(ApiError, match="maxReplicas is more than 1"):
        await make(client, namespace, cache=claim, scaling={"maxReplicas": 2})
    with pytest.raises(ApiError, match="dryRun tells what Managed would do"):
        await make(client, namespace, scaling={"maxReplicas": 2, "mode": "Fixed", "dryRun": True})
    await make(client, namespace, cache=claim, scaling={"maxReplicas": 2, "mode": "Fixed"})


async def test_leases_of_gateways_are_watched(client: Client, access: Access, namespace: str) -> None:
    class Listener:
        def __init__(self) -> None:
            self.news: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        def lease(self, event: str, lease: Json) -> None:
            self.news.put_nowait((event, lease["metadata"]["name"]))

        def only(self, names: set[str]) -> None:
            self.news.put_nowait(("LISTED", ",".join(sorted(names))))

    listener, gateway = Listener(), Gateway(client, namespace)
    await gateway.tells((namespace, "qwen"), held=1)
    async with Client(access) as own:
        health = work_in(access, own, namespace)._health
        task = asyncio.create_task(Leases(own, namespace, {}, listener, health, 600.0).run())
        try:
            async with asyncio.timeout(60):
                first = {await listener.news.get(), await listener.news.get()}
                assert first == {("ADDED", "gateway-0"), ("LISTED", "gateway-0")}
                await gateway.tells((namespace, "qwen"), held=2)
                assert await listener.news.get() == ("MODIFIED", "gateway-0")
                await client.send("delete", LEASE, LEASE.path(namespace, "gateway-0"))
                assert await listener.news.get() == ("DELETED", "gateway-0")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_leader_that_is_killed_while_requests_are_held_is_followed_by_one_that_wakes(
    kubeconfig: Path, tmp_path: Path, client: Client, access: Access, namespace: str
) -> None:
    key = await make(client, namespace, replicas=0, scaling={"minReplicas": 0, "maxReplicas": 2})
    gateway, there, page = Gateway(client, namespace), f"--namespace={namespace}", f"/scaling/{namespace}/qwen"
    here = f"{IMAGES}namespaces: [{namespace}]\ngateway: {{service: gateway}}\n"

    async def woken() -> bool:
        await gateway.tells(key, held=1)
        return bool((await live(client, key))["spec"]["replicas"])

    async with (
        Controllers(access).running(),
        operator(kubeconfig, tmp_path, there, name="a", installation=here, environment={"POD_NAME": "a"}) as a,
    ):
        assert '"replicas": 0' in await a.until(page, "signals")
        async with operator(
            kubeconfig, tmp_path, there, name="b", installation=here, environment={"POD_NAME": "b"}
        ) as b:
            await b.until("/readyz", "standing by")
            assert "stands by" in (await b.get(page))[1]
            a.process.send_signal(signal.SIGKILL)
            await until(woken)
            assert (await holder(client, namespace)).startswith("b_")
            await b.until(page, "1 requests held and in flight")
