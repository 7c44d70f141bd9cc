"""What pods name and get rights or files from must be the service's own before a pod names it."""

from __future__ import annotations

import dataclasses

import pytest
from live_world import CONFIG, edit, make, settle, work_in  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, LLM_SERVICE, SERVICE_ACCOUNT, Json, Kind
from llmservice_kube.login import Access
from llmservice_operator.facts.config import Allow
from llmservice_operator.facts.live import condition

CLOSED = dataclasses.replace(CONFIG, allow=Allow(service_accounts=(), sidecars=False))
CACHE = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "9Gi"}}
ASKING: dict[Kind, dict[str, object]] = {
    CLAIM: {"cache": CACHE},
    CONFIG_MAP: {"adapters": [{"name": "sql", "uri": "hf://a/sql"}]},
}
"""What a spec has so that an object of the kind is made."""


def theirs(kind: Kind, namespace: str) -> Json:
    """An account, a claim or a ConfigMap of somebody else, under the name that ours would have."""
    body: Json = {"apiVersion": "v1", "kind": kind.kind, "metadata": {"namespace": namespace}}
    if kind == SERVICE_ACCOUNT:
        body["metadata"]["name"] = "admin-llm"
    elif kind == CONFIG_MAP:
        body |= {"metadata": {"namespace": namespace, "name": "admin-adapters"}, "data": {"adapters.json": "{}"}}
    else:
        body["metadata"]["name"] = "admin-models"
        body["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return body


async def said(client: Client, key: tuple[str, str]) -> tuple[str, str]:
    live = await client.get(LLM_SERVICE, *key)
    ready = condition(live or {}, "Ready")
    assert ready is not None
    return ready["status"], ready["reason"]


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, CLAIM, CONFIG_MAP], ids=str)
async def test_no_pod_gets_what_a_stranger_has_under_the_name_of_ours(
    access: Access, client: Client, namespace: str, kind: Kind
) -> None:
    there = await client.create(theirs(kind, namespace))
    assert there is not None
    key = await make(client, namespace, "admin", **ASKING.get(kind, {}))
    async with Client(access) as own:
        work = work_in(access, own, namespace, CLOSED)
        await settle(work, client, namespace)
        assert await said(client, key) == ("False", "NameConflict")
        for made in (JOB, DEPLOYMENT):
            assert (await client.list(made, namespace)).items == []
        assert await client.get(kind, namespace, there["metadata"]["name"]) == there
        await client.merge(there, {"metadata": {"finalizers": None}})  # a controller's, of a claim in use
        await client.delete(kind, namespace, there["metadata"]["name"], there["metadata"]["uid"])
        await settle(work, client, namespace)
        assert (await said(client, key))[0] == "True"


async def test_what_runs_goes_on_and_can_be_stopped_when_a_stranger_takes_the_name(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace, "admin")
    async with Client(access) as own:
        work = work_in(access, own, namespace, CLOSED)
        await settle(work, client, namespace)
        before = await client.get(DEPLOYMENT, *key)
        ours = await client.get(SERVICE_ACCOUNT, namespace, "admin-llm")
        assert before is not None and ours is not None
        await client.delete(SERVICE_ACCOUNT, namespace, "admin-llm", ours["metadata"]["uid"])
        assert await client.create(theirs(SERVICE_ACCOUNT, namespace)) is not None
        await edit(client, key, replicas=2)
        await settle(work, client, namespace)
        assert await client.get(DEPLOYMENT, *key) == before
        await edit(client, key, replicas=0)
        await settle(work, client, namespace)
        stopped = await client.get(DEPLOYMENT, *key)
        assert stopped is not None and stopped["spec"]["replicas"] == 0
