"""What the operator writes to the real API server, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest
from live_world import (  # type: ignore[import-not-found]
    Crash,
    DyingClient,
    edit,
    end_state,
    make,
    one_pass,
    settle,
    work_in,
    written,
)

from llmservice_kube.client import Client
from llmservice_kube.kinds import CONTROLLER_REVISION, DEPLOYMENT, LLM_SERVICE, SERVICE, Json, Kind
from llmservice_kube.login import Access

NAMESPACES = Kind("", "v1", "Namespace", "namespaces", namespaced=False)


async def condition(client: Client, key: tuple[str, str], kind: str) -> Json:
    live = await client.get(LLM_SERVICE, *key)
    assert live is not None
    conditions: list[Json] = live["status"]["conditions"]
    return next(entry for entry in conditions if entry["type"] == kind)


async def patch(client: Client, key: tuple[str, str], body: Json, manager: str = "somebody") -> Json:
    return await client.send("patch", DEPLOYMENT, DEPLOYMENT.path(*key), {"fieldManager": manager}, body)


async def test_a_resync_over_services_in_every_phase_writes_nothing(
    access: Access, client: Client, namespace: str
) -> None:
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        running = [await make(client, namespace, f"running-{number}") for number in range(3)]
        await make(client, namespace, "too-big", accelerator={"count": 8, "resourceName": "nvidia.com/gpu"})
        await make(client, namespace, "invalid", model={"uri": "file://relative/path"})
        blocked = await make(client, namespace, "blocked")
        await client.create(foreign_service(*blocked))
        await settle(work, client, namespace)
        preparing = await make(client, namespace, "preparing")
        await one_pass(work)
        assert (await condition(client, running[0], "Ready"))["status"] == "True"
        assert (await condition(client, (namespace, "invalid"), "SpecValid"))["status"] == "False"
        assert (await condition(client, (namespace, "too-big"), "Planned"))["status"] == "False"
        assert (await condition(client, blocked, "NameConflict"))["status"] == "True"
        assert (await condition(client, preparing, "ModelResolved"))["status"] != "True"
        before = written(own)
        for _ in range(3):
            await one_pass(work)
        assert written(own) == before
    async with Client(access) as other:  # nor does a restart, but for one attempt at the name that was taken
        await one_pass(work_in(access, other, namespace))
        assert {key: n for key, n in other.counts.items() if key[0] not in ("get", "list")} == {("apply", "Service"): 1}


def foreign_service(namespace: str, name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}},
    }


async def test_a_foreign_object_is_never_adopted_also_when_it_comes_in_between(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await work.relist()
        theirs = await client.create(foreign_service(*key))  # after the cache was read
        await settle(work, client, namespace)
        assert await client.get(SERVICE, *key) == theirs
        assert (await condition(client, key, "NameConflict"))["status"] == "True"
        assert theirs is not None
        await client.delete(SERVICE, key[0], key[1], theirs["metadata"]["uid"])
        await settle(work, client, namespace)
        assert (await condition(client, key, "NameConflict"))["status"] == "False"


async def test_ready_means_served_also_when_a_foreign_service_goes(
    access: Access, client: Client, namespace: str
) -> None:
    """As `kubernetes` in `default`: the URL would lead to somebody else."""
    key = await make(client, namespace, "kubernetes")
    theirs = await client.create(foreign_service(*key))
    assert theirs is not None
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        live = await client.get(LLM_SERVICE, *key)
        assert live is not None
        assert (live["status"]["readyReplicas"], live["status"].get("url")) == (1, None)
        for kind in ("Ready", "Available"):
            found = await condition(client, key, kind)
            assert (found["status"], found["reason"]) == ("False", "NameConflict")
        for _ in range(12):  # a backoff would be minutes by now
            await work.passes.one(key)
        due = work.passes.queue.next_due()
        assert due is not None and due - work._clock() <= 30, "nothing tells when it goes"
        await client.delete(SERVICE, key[0], key[1], theirs["metadata"]["uid"])
        await settle(work, client, namespace)
        live = await client.get(LLM_SERVICE, *key)
        assert live is not None
        assert live["status"]["url"] == f"http://kubernetes.{namespace}.svc.cluster.local/v1"
        assert (await condition(client, key, "Ready"))["status"] == "True"


async def test_our_fields_come_back_and_those_of_others_stay(access: Access, client: Client, namespace: str) -> None:
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        live = await client.get(DEPLOYMENT, *key)
        assert live is not None
        image = live["spec"]["template"]["spec"]["containers"][0]["image"]
        pod: Any = live["spec"]["template"]["spec"]
        sidecar = {"name": "sidecar", "image": "proxy:1"}
        changed = [{**pod["containers"][0], "image": "evil:1"}, sidecar]
        template = {"metadata": {"annotations": {"sidecar": "injected"}}, "spec": {"containers": changed}}
        metadata = {"labels": {"team": "a"}, "annotations": {"autoscaling.example/seen": "1"}}
        await patch(client, key, {"metadata": metadata, "spec": {"template": template, "paused": True}})
        await settle(work, client, namespace)
        restored = await client.get(DEPLOYMENT, *key)
        assert restored is not None
        containers = {item["name"]: item["image"] for item in restored["spec"]["template"]["spec"]["containers"]}
        assert containers == {pod["containers"][0]["name"]: image, "sidecar": "proxy:1"}
        assert restored["spec"]["template"]["metadata"]["annotations"]["sidecar"] == "injected"
        assert restored["spec"]["paused"] is True
        assert restored["metadata"]["labels"]["team"] == "a"
        assert restored["metadata"]["annotations"]["autoscaling.example/seen"] == "1"
        before = written(own)
        await one_pass(work)
        assert written(own) == before


async def test_a_field_that_another_manager_forced_is_taken_back(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": key[1]}, "spec": {"replicas": 7}}
        query = {"fieldManager": "rival", "force": "true"}
        await client.send("apply", DEPLOYMENT, DEPLOYMENT.path(*key), query, theirs)
        await settle(work, client, namespace)
        live = await client.get(DEPLOYMENT, *key)
        assert live is not None
        assert live["spec"]["replicas"] == 1


async def test_a_field_that_the_spec_no_longer_asks_for_goes(access: Access, client: Client, namespace: str) -> None:
    key = await make(client, namespace, podTemplate={"metadata": {"annotations": {"a": "1", "b": "2"}}})
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        assert {"a", "b"} <= await annotations_of(client, key)
        await edit(client, key, podTemplate={"metadata": {"annotations": {"a": None}}})
        await settle(work, client, namespace)
        assert {"a", "b"} & await annotations_of(client, key) == {"b"}


async def annotations_of(client: Client, key: tuple[str, str]) -> set[str]:
    live = await client.get(DEPLOYMENT, *key)
    assert live is not None
    return set(live["spec"]["template"]["metadata"]["annotations"])


@pytest.mark.parametrize("lives_for", [1, 2, 3])
async def test_an_operator_that_dies_after_every_few_writes_gets_to_the_same_end(
    access: Access, client: Client, namespace: str, lives_for: int
) -> None:
    """With 1 it dies after each single write there is, of an installation, an edit and a change of the model."""
    steps: list[dict[str, Any]] = [{}, {"contextTokens": 2048, "replicas": 2}, {"model": {"uri": "hf://c/d"}}]
    calm = f"{namespace}-calm"
    body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": calm}}
    await client.send("create", NAMESPACES, NAMESPACES.path(), body=body)
    key, model = await make(client, namespace), await make(client, calm)
    lives = 0
    for step in steps:
        for one in (key, model):
            await edit(client, one, **step)
        async with Client(access) as own:
            await settle(work_in(access, own, calm), client, calm)
        while True:
            async with DyingClient(access) as dying:
                dying.lives_for = lives_for
                try:
                    await settle(work_in(access, dying, namespace), client, namespace)
                    if not written(dying):
                        break
                except Crash:
                    lives += 1
        assert await end_state(client, namespace) == await end_state(client, calm)
    assert lives >= 15 / lives_for
    assert len((await client.list(CONTROLLER_REVISION, namespace)).items) == 3
