"""A gateway whose services are those of a scripted API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from cluster_objects import endpoint, endpoint_slice  # type: ignore[import-not-found]
from fake_api import FakeApi  # type: ignore[import-not-found]
from gateway_world import World, answer, serve  # type: ignore[import-not-found]

from llmservice_api.demand_lease import ServiceDemand, decode
from llmservice_api.labels import DEMAND
from llmservice_gateway.cluster import internal
from llmservice_gateway.cluster.cluster import Cluster
from llmservice_kube.client import Client
from llmservice_kube.kinds import ENDPOINT_SLICE, LEASE, Json


async def until(found: Callable[[], Any], seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while not found():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


class Here:
    """A gateway whose services are those of `api`."""

    def __init__(self, api: FakeApi, world: World, cluster: Cluster, inner: str) -> None:
        self.api = api
        self.world = world
        self.cluster = cluster
        self.inner = inner

    @property
    def table(self) -> Any:
        return self.world.gateway.proxy.table

    def replicas(self, name: str = "apps/demo") -> list[str]:
        found = self.table.backends.get(name)
        return [replica.name for replica in found.replicas] if found else []

    def told(self) -> dict[str, ServiceDemand]:
        """What its Lease says."""
        held = self.api.objects.get((LEASE, "llm", "me"))
        return dict(decode(held["metadata"]["annotations"][DEMAND]).services) if held else {}

    async def endpoint(self, pod: str, **conditions: bool) -> Json:
        """Of a runtime that answers."""
        parts = urlsplit((await self.world.runtime(answer())).url)
        made: Json = endpoint_slice(endpoint(pod, parts.hostname, **conditions), name=f"demo-{pod}", port=parts.port)
        self.api.put(made, ENDPOINT_SLICE)
        return made

    async def inside(self, path: str) -> tuple[int, str]:
        async with self.world.client.get(self.inner + path) as response:
            return response.status, await response.text()


@asynccontextmanager
async def gateway(api: FakeApi, name: str = "me", **limits: float) -> AsyncIterator[Here]:
    async with AsyncExitStack() as stack:
        world = World(stack)
        await world.open()
        world.gateway.proxy.limits = world.gateway.proxy.limits.__class__(
            **{"connect_seconds": 20, "hold_seconds": 30, **limits}
        )
        client = await stack.enter_async_context(Client(api.access, sleep=lambda seconds: asyncio.sleep(0.01)))
        cluster = Cluster(client, world.gateway.proxy, "llm", name, {"app.kubernetes.io/instance": "x"})
        inner = internal.application(
            world.gateway, lambda: "" if cluster.directory.ready else "not yet", cluster.others
        )
        task = asyncio.create_task(cluster.run())
        try:
            yield Here(api, world, cluster, await serve(stack, inner))
        finally:
            task.cancel()
            await asyncio.wait([task])
