"""A cluster full of what is not ours, and many services."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

from llmservice_api.crd import custom_resource_definition
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LLM_SERVICE, NODE, SERVICE_ACCOUNT, Json, Kind

CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
OPERATOR = "llm-system"
"""Namespace of the Lease."""
NAMESPACES = 20
"""Namespaces of tenants; everything is spread over them."""
ATONCE = 16


def tenant(number: int) -> str:
    """The namespace of a numbered object."""
    return f"tenant-{number % NAMESPACES}"


async def fill(client: Client, nodes: int, pods: int) -> None:
    """CRD, namespaces with the account that pods need, nodes, foreign pods."""
    await client.send("create", CRD, CRD.path(), body=custom_resource_definition())
    for name in (OPERATOR, *map(tenant, range(NAMESPACES))):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await client.send("create", NAMESPACE, NAMESPACE.path(), body=namespace)
        metadata = {"name": "default", "namespace": name}
        await client.create({"apiVersion": "v1", "kind": SERVICE_ACCOUNT.kind, "metadata": metadata})
    await all_of(_node(client, number) for number in range(nodes))
    await all_of(client.create(_pod(number, nodes)) for number in range(pods))
    async with asyncio.timeout(60):
        while not await _served(client):  # noqa: ASYNC110 - nothing tells when a kind is served
            await asyncio.sleep(0.1)


async def services(client: Client, count: int) -> list[tuple[str, str]]:
    """Make them; their (namespace, name)."""
    keys = [(tenant(number), f"llm-{number}") for number in range(count)]
    await all_of(client.create(_service(*key)) for key in keys)
    return keys


async def all_of(requests: Iterable[Awaitable[object]]) -> None:
    """A few at a time, and no more in memory."""
    waiting = iter(requests)

    async def some() -> None:
        for request in waiting:
            await request

    async with asyncio.TaskGroup() as tasks:
        for _ in range(ATONCE):
            tasks.create_task(some())


def _service(namespace: str, name: str) -> Json:
    return {
        "apiVersion": LLM_SERVICE.api_version,
        "kind": LLM_SERVICE.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": "hf://a/b"}},
    }


async def _node(client: Client, number: int) -> None:
    gpu = {"nvidia.com/gpu": "4"} if number % 5 == 0 else {}
    labels = {"kubernetes.io/arch": "amd64"} | ({"nvidia.com/gpu.product": "NVIDIA-L4"} if gpu else {})
    body: Json = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}", "labels": labels}}
    await client.create(body)
    size = {"cpu": "16", "memory": "64Gi", "pods": "250", **gpu}
    path = NODE.path(None, f"node-{number}", "status")
    await client.send("patch", NODE, path, body={"status": {"capacity": size, "allocatable": size}})


def _pod(number: int, nodes: int) -> Json:
    container = {"name": "app", "image": "app:1", "env": [{"name": f"V{i}", "value": "x" * 20} for i in range(10)]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"foreign-{number}", "namespace": tenant(number), "labels": {"app": "foreign"}},
        "spec": {"containers": [container], "nodeName": f"node-{number % max(1, nodes)}"},
    }


async def _served(client: Client) -> bool:
    try:
        await client.list(LLM_SERVICE)
    except ApiError as error:
        if error.missing:
            return False
        raise
    return True
