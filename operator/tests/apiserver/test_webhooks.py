"""Admission webhooks that don't answer: the API server is well, and one kind of object can't be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from live_world import make, one_pass, settle, work_in  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE, NETWORK_POLICY, Json, Kind
from llmservice_kube.login import Access

WEBHOOKS = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
)


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def silent_webhook(client: Client, namespace: str) -> AsyncIterator[None]:
    """Asked before every NetworkPolicy of the namespace; nothing listens there."""
    rule = {"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["networkpolicies"]}
    webhook: Json = {
        "name": "policies.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{**rule, "operations": ["CREATE", "UPDATE"], "scope": "*"}],
    }
    body = {
        "apiVersion": WEBHOOKS.api_version,
        "kind": WEBHOOKS.kind,
        "metadata": {"name": f"silent-{namespace}"},
        "webhooks": [webhook],
    }
    made = await client.send("create", WEBHOOKS, WEBHOOKS.path(), body=body)
    try:
        async with asyncio.timeout(30):
            while not await _asked(client, namespace):  # noqa: ASYNC110 - nothing tells when it is in force
                await asyncio.sleep(0.1)
        yield
    finally:
        await client.delete(WEBHOOKS, None, made["metadata"]["name"], made["metadata"]["uid"])


async def _asked(client: Client, namespace: str) -> bool:
    metadata = {"name": "probe", "namespace": namespace}
    probe = {"apiVersion": NETWORK_POLICY.api_version, "kind": "NetworkPolicy", "metadata": metadata}
    async with Client(client._access, sleep=no_sleep) as asking:
        try:
            await asking.apply({**probe, "spec": {"podSelector": {}}}, dry_run=True)
        except Exception as error:
            return "failed calling webhook" in str(error)
    return False


async def ready(client: Client, key: tuple[str, str]) -> Json:
    live = await client.get(LLM_SERVICE, *key)
    assert live is not None
    found: Json = next(entry for entry in live["status"]["conditions"] if entry["type"] == "Ready")
    return found


async def test_a_webhook_that_does_not_answer_is_told_in_status_and_the_rest_goes_on(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    async with Client(access, sleep=no_sleep) as own:
        work = work_in(access, own, namespace)
        async with silent_webhook(client, namespace):
            for _ in range(2):
                await one_pass(work)
            said = await ready(client, key)
            assert said["reason"] == "WriteRefused"
            assert 'failed calling webhook "policies.example.com"' in said["message"]
            assert "Have the admission webhook that it names mended or removed" in said["message"]
            assert await client.get(NETWORK_POLICY, *key) is None
        async with asyncio.timeout(60):
            while await client.get(NETWORK_POLICY, *key) is None:
                await one_pass(work)
        await settle(work, client, namespace)
        assert (await ready(client, key))["reason"] == "Ready"
