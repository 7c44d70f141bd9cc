"""PodMonitors on the real API server: made where their CRD is, and written once."""

from __future__ import annotations

import asyncio
import uuid

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import POD_MONITOR, Kind
from llmservice_operator.children.pod_monitor import pod_monitor
from llmservice_operator.control.diff import must_apply, stamped
from llmservice_operator.control.monitoring import run_as_served
from llmservice_operator.facts.config import Monitoring, OperatorConfig
from llmservice_operator.facts.owner import Json, Owner

CRDS = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
CONFIG = OperatorConfig(images=(), operator_namespace="llm", monitoring=Monitoring(15, (("release", "kps"),)))


def definition() -> Json:
    """As much of the Prometheus operator's CRD as matters here."""
    endpoint = {"type": "object", "properties": {name: {"type": "string"} for name in ("port", "path", "interval")}}
    spec = {
        "type": "object",
        "properties": {
            "selector": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "podMetricsEndpoints": {"type": "array", "items": endpoint},
            "podTargetLabels": {"type": "array", "items": {"type": "string"}},
        },
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{POD_MONITOR.plural}.{POD_MONITOR.group}"},
        "spec": {
            "group": POD_MONITOR.group,
            "scope": "Namespaced",
            "names": {"kind": POD_MONITOR.kind, "plural": POD_MONITOR.plural, "singular": "podmonitor"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def test_services_get_one_once_the_cluster_knows_the_kind(client: Client, namespace: str) -> None:
    terms: asyncio.Queue[OperatorConfig] = asyncio.Queue()

    async def work(served: OperatorConfig) -> None:
        await terms.put(served)
        await asyncio.Event().wait()

    running = asyncio.create_task(run_as_served(client, CONFIG, (namespace,), work, pause=0.1))
    async with asyncio.timeout(30):
        assert (await terms.get()).monitoring is None
        await client.send("create", CRDS, CRDS.path(), body=definition())
        assert await terms.get() == CONFIG
        await client.send("delete", CRDS, CRDS.path(None, definition()["metadata"]["name"]))
        assert (await terms.get()).monitoring is None, "a kind that went holds up no list of the others"
        await _created(client)
        assert await terms.get() == CONFIG
    running.cancel()
    await asyncio.wait([running])

    assert CONFIG.monitoring is not None
    wanted = stamped(pod_monitor(Owner("demo", namespace, str(uuid.uuid4())), CONFIG.monitoring))
    async with asyncio.timeout(30):
        while not (live := await _applied(client, wanted)):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
    assert not must_apply(wanted, live)
    assert live["metadata"]["labels"]["release"] == "kps"
    assert live["spec"]["selector"]["matchLabels"]["llmservice.dev/name"] == "demo"
    assert live["spec"]["podMetricsEndpoints"] == [{"port": "http", "path": "/metrics", "interval": "15s"}]


async def _created(client: Client) -> None:
    """Again: the one before goes when its objects are gone."""
    while True:
        try:
            await client.send("create", CRDS, CRDS.path(), body=definition())
        except ApiError as error:
            if not error.conflict:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def _applied(client: Client, wanted: Json) -> Json:
    """The object; empty while the server does not serve its kind yet."""
    try:
        return await client.apply(wanted)
    except ApiError as error:
        if error.missing:
            return {}
        raise
