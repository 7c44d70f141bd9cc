"""The table of services, kept as the mirror of the cluster is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from llmservice_gateway.cluster.endpoints import replicas
from llmservice_gateway.cluster.services import backend
from llmservice_gateway.routing import Backend, Table
from llmservice_kube.cache import Cache, Key
from llmservice_kube.kinds import ENDPOINT_SLICE, LLM_SERVICE, Json, Kind

NONE_LOADED = frozenset[str]()
GATHER_SECONDS = 0.02
"""Changes that come within it make one new table."""

logger = logging.getLogger(__name__)


def readable(kind: Kind, obj: Json) -> Json:
    """The object, when a table can be made with it; raises what reading it raises otherwise. What is not looked at is
    left out."""
    if kind == LLM_SERVICE:
        backend(obj)
        return obj
    assert kind == ENDPOINT_SLICE
    labels = obj["metadata"].get("labels") or {}
    replicas(labels.get("kubernetes.io/service-name", ""), (obj,))
    return obj


class Directory:
    """Makes a table of what `cache` has, once that knows everything, and hands it to `publish`."""

    def __init__(self, cache: Cache, publish: Callable[[Table], None]) -> None:
        self._cache = cache
        self._publish = publish
        self._dirty = set[Key]()
        self._all = True
        self._news = asyncio.Event()
        self._backends: dict[str, Backend] = {}
        self._aliases: Mapping[str, str] = {}
        self._gateways = 1
        self._queues: Mapping[str, int] = {}
        self._loaded: Mapping[str, frozenset[str]] = {}
        self.ready = False
        """A table was made once. It stays, whatever becomes of the API server."""

    def changed(self, keys: Collection[Key]) -> None:
        """Something is new of these services."""
        self._dirty.update(keys)
        self._news.set()

    def has_told(self, key: Key) -> bool:
        """Whether the table has what is known of this service."""
        return self.ready and not self._all and key not in self._dirty

    def listed(self) -> None:
        """A list has ended: perhaps everything is known now."""
        self._news.set()

    def rename(self, aliases: Mapping[str, str]) -> None:
        """Other names, from now on."""
        self._aliases = dict(aliases)
        self._news.set()

    def shared_by(self, gateways: int) -> None:
        """So many gateways are there."""
        if gateways != self._gateways:
            self._gateways, self._all = gateways, True
            self._news.set()

    def queues(self, waiting: Mapping[str, int]) -> None:
        """Replica -> requests in its own queue, as it last said; the others have none."""
        before, self._queues = self._queues, waiting
        self._told(before, waiting)

    def loaded(self, adapters: Mapping[str, frozenset[str]]) -> None:
        """Replica -> adapters that it has loaded, as it last said; the others have none."""
        before, self._loaded = self._loaded, adapters
        self._told(before, adapters)

    def _told(self, before: Mapping[str, object], now: Mapping[str, object]) -> None:
        changed = {name for name in {*now, *before} if now.get(name) != before.get(name)}
        for known in self._backends.values():
            if any(replica.name in changed for replica in known.replicas):
                self.changed([(known.namespace, known.name)])

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._news.clear()
            if self.ready or self._cache.useful:
                self._make()

    def _make(self) -> None:
        dirty, self._dirty = self._dirty, set()
        if self._all:
            dirty |= {*self._cache.services(), *((b.namespace, b.name) for b in self._backends.values())}
        self._all = False
        for key in dirty:
            name = "/".join(key)
            found = self._backend(key)
            if found is None:
                self._backends.pop(name, None)
            else:
                self._backends[name] = found
        self._publish(Table(dict(self._backends), self._aliases))
        self.ready = True

    def _backend(self, key: Key) -> Backend | None:
        service = self._cache.get(LLM_SERVICE, *key)
        if service is None:
            return None
        found = replicas(key[1], self._cache.of(key))
        told = tuple(
            replace(
                replica,
                waiting=self._queues.get(replica.name, 0),
                adapters=self._loaded.get(replica.name, NONE_LOADED),
            )
            for replica in found
        )
        return backend(service, told, self._gateways)
