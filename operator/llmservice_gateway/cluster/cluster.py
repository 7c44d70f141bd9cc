"""What the gateway knows of its cluster, and tells it: services, endpoints, the other gateways, and its own Lease."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from llmservice_api.demand_lease import ServiceDemand
from llmservice_api.gateway_keys import keys_secret
from llmservice_api.gateway_usage import usage_map
from llmservice_api.labels import GATEWAY, NAME, selector
from llmservice_gateway.cluster.console import ClusterFacts
from llmservice_gateway.cluster.directory import Directory, readable
from llmservice_gateway.cluster.heed import Heed
from llmservice_gateway.cluster.keys import Keys
from llmservice_gateway.cluster.launcher import ClusterLauncher
from llmservice_gateway.cluster.lease import Keeper
from llmservice_gateway.cluster.loaded import watch_loaded
from llmservice_gateway.cluster.peers import Peers
from llmservice_gateway.cluster.queues import watch_queues
from llmservice_gateway.cluster.usage import UsageKeeper
from llmservice_gateway.keys.door import Door
from llmservice_gateway.launching.wish import Leave
from llmservice_gateway.proxy import Proxy
from llmservice_kube.cache import Key
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import ENDPOINT_SLICE, LEASE, LLM_SERVICE, Json, Kind
from llmservice_kube.mirror import Changed, Mirror
from llmservice_kube.watching import watch_into

LOOK_SECONDS = 1.0
"""Between two looks at whether other gateways still live."""
ANEW_SECONDS = 1.0
COMPONENT, OURS = next(iter(GATEWAY.items()))
SERVED = {LLM_SERVICE: "", ENDPOINT_SLICE: NAME}

logger = logging.getLogger(__name__)


class Cluster:
    """Publishes to `proxy` what it serves, until `run` is cancelled; `end` afterwards. `namespaces` empty = all.

    `namespace` and `name` are the Lease's; `labels` those of this installation's Leases. `door` gets the keys of the
    gateway whose Service has the name `service`.
    """

    def __init__(
        self,
        client: Client,
        proxy: Proxy,
        namespace: str,
        name: str,
        labels: Mapping[str, str],
        namespaces: Sequence[str] = (),
        resync_seconds: float = 600.0,
        door: Door | None = None,
        service: str = "",
    ) -> None:
        self._client = client
        self._rooms = proxy.rooms
        self._namespace, self._namespaces = namespace, namespaces
        self._services = Mirror(
            client,
            SERVED,
            NAME,
            namespaces,
            changed=lambda keys: self.directory.changed(keys),
            read=readable,
            done=self._listed,
            seconds=resync_seconds,
        )
        self._lease_kinds = {LEASE: selector({**labels, **GATEWAY})}
        self._leases = Mirror(
            client, self._lease_kinds, COMPONENT, (namespace,), changed=self._look, seconds=resync_seconds
        )
        self.directory = Directory(self._services.cache, proxy.publish)
        self._peers = Peers(name)
        self._suspects = proxy.suspects
        self.keeper = Keeper(client, proxy.rooms, namespace, name, labels, _owner(name), suspects=proxy.suspects)
        proxy.heed = Heed(proxy.suspects, self.keeper, lambda: self._peers.live(asyncio.get_running_loop().time()) > 1)
        self.problem = ""
        """Why the services can't be listed; empty when they can."""
        self._rooms.waits = self.keeper.waits
        self._rooms.share = self._share
        self._door = door
        self.keys: Keys | None = None
        self._usage: UsageKeeper | None = None
        if door is not None:
            self.keys = Keys(client, door, namespace, keys_secret(service))
            self._usage = UsageKeeper(client, door.usage, namespace, usage_map(service))
            door.gateways = lambda: self._peers.live(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Until cancelled. A bug in one part ends none of the others, and no request."""
        changed = self.directory.changed
        parts: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            ("lists of services", self._services.run),
            ("lists of Leases", self._leases.run),
            ("watches of services", partial(self._watch, self._services, SERVED, self._namespaces, changed)),
            ("watch of Leases", partial(self._watch, self._leases, self._lease_kinds, (self._namespace,), self._look)),
            ("table", self.directory.run),
            ("Lease", self.keeper.run),
            ("engines' queues", partial(watch_queues, self._rooms, self.directory.queues)),
            ("engines' adapters", partial(watch_loaded, self._rooms, self.directory.loaded)),
            ("other gateways", self._live),
            *((("keys", self.keys.run),) if self.keys else ()),
            *((("keys' usage", self._usage.run),) if self._usage else ()),
        )
        async with asyncio.TaskGroup() as group:
            for what, part in parts:
                group.create_task(_again_and_again(what, part))

    async def _watch(
        self, mirror: Mirror, kinds: Mapping[Kind, str], namespaces: Sequence[str], changed: Changed
    ) -> None:
        await watch_into(mirror, self._client, kinds, namespaces, changed=lambda key: changed((key,)))

    async def end(self) -> None:
        """This gateway is no more."""
        if self._usage is not None:
            await self._usage.end()
        await self.keeper.end()

    @property
    def unkeyed(self) -> str:
        """Why nobody is let in yet; empty = keys were read, or are not asked for."""
        if self.keys is None or self._door is None or self._door.ready:
            return ""
        return f"API keys are not known yet: {self.keys.problem}"

    @property
    def facts(self) -> ClusterFacts:
        """What the console's page shows."""
        return ClusterFacts(self._client, self._services.cache, self._namespace, self.others)

    def launcher(self, leave: Leave) -> ClusterLauncher:
        """What launches models for clients."""
        return ClusterLauncher(self._client, self._services.cache, self.directory, leave)

    def others(self, service: str) -> ServiceDemand:
        """What the other gateways have of it."""
        return self._peers.others(service, asyncio.get_running_loop().time())

    def _share(self, service: str) -> float:
        """Of each replica's places: as the requests are shared among the gateways now."""
        theirs = self.others(service)
        mine, others = self._rooms.busy(service), theirs.held + theirs.in_flight
        return mine / (mine + others) if mine and others else 1.0

    def _look(self, _: Collection[Key]) -> None:
        """The Leases have changed."""
        found: list[Json] = list(self._leases.cache.of((self._namespace, OURS)))
        now = asyncio.get_running_loop().time()
        self._peers.look(found, now, datetime.now(UTC))
        for gateway, deaths in self._peers.deaths(now).items():
            self._suspects.heard(gateway, deaths, time.monotonic())
        self._rooms.look_again()

    async def _live(self) -> None:
        """Count the gateways: one that dies changes nothing in the cluster."""
        loop, before = asyncio.get_running_loop(), 1
        while True:
            live = self._peers.live(loop.time())
            self.directory.shared_by(live)
            if live < before:
                self._rooms.look_again()
            before = live
            await asyncio.sleep(LOOK_SECONDS)

    def _listed(self, error: ApiError | None) -> None:
        self.problem = str(error) if error else ""
        if error is not None:
            logger.warning("services can't be listed: %s", error)
        self.directory.listed()


async def _again_and_again(what: str, part: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await part()
        except Exception:
            logger.exception("%s: ended by a bug; begun anew", what)
        await asyncio.sleep(ANEW_SECONDS)


def _owner(name: str) -> Mapping[str, str] | None:
    """The pod, with which its Lease goes, however it goes."""
    uid = os.environ.get("POD_UID")
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid} if uid else None
