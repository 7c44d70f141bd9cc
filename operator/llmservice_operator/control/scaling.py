"""The loop that scales by demand: it looks at each service that asks for it every few seconds, and at once when a
request waits for it. What it decides it writes through /scale, and through nothing else; status tells what changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Protocol

from llmservice_api.conditions import Reason
from llmservice_kube.answers import MARK
from llmservice_kube.cache import Cache, Key, place_of
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError, LeadershipLost
from llmservice_kube.kinds import LLM_SERVICE, POD, Json
from llmservice_operator.control.prometheus import Prometheus
from llmservice_operator.control.recorder import Recorder
from llmservice_operator.control.supervisors import Supervisors
from llmservice_operator.demand.gateways import Gateways
from llmservice_operator.demand.memory import Memory
from llmservice_operator.demand.replicas import COST, Replica, Work, costs
from llmservice_operator.demand.scaled import Scaled, managed, scaled, without_gateway
from llmservice_operator.facts.config import OperatorConfig
from llmservice_scaling.told import ScalingTold

LOOK_SECONDS = 2.0
"""Between two decisions about a service."""
AGAIN_SECONDS = 30.0
"""After /scale was refused."""
SLICE = 50
"""Services that are decided about before others of the process have their turn."""

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Who tells what replicas have to do; `told` is by the pod's uid."""

    @property
    def told(self) -> dict[str, Work]: ...

    def complaint(self, replicas: Collection[Replica]) -> str:
        """Why not all is told of them; empty when it is."""
        ...


class Scaling:
    """`changed` is told of everything that happens to a service; `wake` has its status looked at."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        recorder: Recorder,
        config: OperatorConfig,
        wake: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.gateways = Gateways()
        self.prometheus = Prometheus(config.prometheus, clock) if config.prometheus is not None else None
        self.supervisors = Supervisors(clock=clock, polls=self.prometheus is None)
        self._source: Source = self.prometheus or self.supervisors
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._config = config
        self._wake = wake
        self._clock = clock
        self._wall = wall
        self._dirty: set[Key] = set()
        self._services: dict[Key, Scaled] = {}
        self._memories: dict[Key, Memory] = {}
        self._urgent: set[Key] = set()
        self._writing: dict[Key, asyncio.Task[None]] = {}
        self._not_before: dict[Key, float] = {}
        """When /scale is tried again that was refused."""
        self._looked = -math.inf
        self._bell = asyncio.Event()

    def changed(self, keys: Collection[Key]) -> None:
        """Something is new of these services, or of what belongs to them."""
        self._dirty.update(keys)

    def told(self, key: Key) -> ScalingTold | None:
        """What status is to tell of a service."""
        memory = self._memories.get(key)
        return memory.told if memory is not None and key in self._services else None

    def lease(self, event: str, lease: Json) -> None:
        """A gateway's Lease came, changed or went; services that requests wait for are decided about at once."""
        if event == "DELETED":
            self.gateways.gone(lease["metadata"]["name"])
            return
        for name in self.gateways.saw(lease, self._clock(), self._wall()):
            namespace, _, bare = name.partition("/")
            self._urgent.add((namespace, bare))
        if self._urgent:
            self._bell.set()

    def only(self, names: set[str]) -> None:
        """These Leases are there, and no others."""
        self.gateways.only(names)

    def explain(self, key: Key) -> Json | None:
        """The last decision about a service with all that led to it; None when nothing is decided about it."""
        memory = self._memories.get(key)
        if memory is None or (found := self._services.get(key)) is None:
            return None
        notes = ["dryRun is set: this is told, and not done."] if found.scaling.dry_run else []
        if why := self._complaint(found):
            notes.append(f"Not everything is told: {why}.")
        return memory.explain(found.name, self._clock(), notes)

    async def run(self) -> None:
        """Decide until cancelled. Raises LeadershipLost when the term is over."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self.turn(tasks)
                if not self._urgent:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, self._looked + LOOK_SECONDS - self._clock())):
                            await self._bell.wait()

    async def turn(self, tasks: asyncio.TaskGroup) -> None:
        """Decide about all services, or in between about those that requests wait for. `tasks` write what follows."""
        self._bell.clear()
        urgent, self._urgent = self._urgent, set()
        await self._learn()
        if self._clock() - self._looked >= LOOK_SECONDS:
            self._looked = self._clock()
            keys = list(self._services)
        else:
            keys = [key for key in urgent if key in self._services]
        for number, key in enumerate(keys, 1):
            self._look(key, tasks)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    async def _learn(self) -> None:
        """What the cluster has of the services that changed."""
        dirty, self._dirty = self._dirty, set()
        for number, key in enumerate(dirty, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            try:
                found = self._read(key)
            except Exception:
                logger.exception("%s: reading what there is to scale failed by a bug", "/".join(key))
                continue  # what was known of it before counts on
            if found is None:
                if self._services.pop(key, None) is not None:
                    self._keep("/".join(key), ())
                    self._memories.pop(key, None)
                    self._not_before.pop(key, None)
                continue
            self._services[key] = found
            self._keep(found.name, found.ready)
            memory = self._memories.get(key)
            if memory is None or memory.uid != found.uid:
                self._memories[key] = Memory(found.uid)

    def _keep(self, service: str, replicas: Collection[Replica]) -> None:
        self.supervisors.keep(service, replicas)
        if self.prometheus is not None:
            self.prometheus.keep(service, replicas)

    def _read(self, key: Key) -> Scaled | None:
        service = self._cache.get(LLM_SERVICE, *key)
        if service is None or MARK in service or not managed(service):
            return None
        return scaled(service, tuple(self._cache.of(key)), self._config)

    def _look(self, key: Key, tasks: asyncio.TaskGroup) -> None:
        """Decide about one service; a bug of ours costs one look at it."""
        if key in self._writing:
            return
        try:
            found, memory = self._services[key], self._memories[key]
            before, other, now = memory.told, memory.overruled(found), self._clock()
            asked = self.gateways.asked(found.name, now) if self._config.has_gateway else without_gateway(now)
            told = self._source.told
            works = {one.uid: told[one.uid] for one in found.ready if one.uid in told}
            wanted = memory.decide(found, asked, works, self._complaint(found), now, self._wall())
            there = memory.there(found)
            if not found.scaling.dry_run and wanted != there and now >= self._not_before.get(key, now):
                task = tasks.create_task(self._write(key, found, memory, wanted, there, other is not None))
                self._writing[key] = task
                task.add_done_callback(lambda _: self._writing.pop(key, None))
                return  # it is told when it is done, or could not be
            if memory.told != before:
                self._wake(key)
            if found.scaling.dry_run and wanted != found.replicas and (before is None or before.desired != wanted):
                said = f"Demand would have it scaled from {found.replicas} to {wanted}: {memory.sentence}."
                tasks.create_task(self._say(key, Reason.DRY_RUN, said))
        except Exception:
            logger.exception("%s: deciding how many replicas there are to be failed by a bug", "/".join(key))

    def _complaint(self, found: Scaled) -> str:
        why = self.gateways.complaint(self._clock()) if self._config.has_gateway else ""
        return why or self._source.complaint(found.ready)

    async def _write(self, key: Key, found: Scaled, memory: Memory, wanted: int, there: int, overruled: bool) -> None:
        try:
            if 0 < wanted < there:
                await self._spare_the_busy(key, found)
            scale = await self._client.rescale(LLM_SERVICE, *key, found.uid, wanted)
        except LeadershipLost:
            raise
        except ApiError as error:
            self._not_before[key] = self._clock() + AGAIN_SECONDS
            logger.warning("%s: %d replicas were not written: %s", "/".join(key), wanted, error)
            memory.refused(error.message)
            self._wake(key)
            return
        if scale is None:  # it is gone, or another of its name: the watch tells
            return
        self._not_before.pop(key, None)
        memory.wrote(wanted, int(scale["metadata"]["resourceVersion"]), self._wall())
        self._wake(key)
        if overruled:
            said = (
                f"Somebody scaled it to {there}, and demand decides: {wanted} are asked for again "
                f"({memory.sentence}). Change spec.scaling, or set its mode to Fixed or External."
            )
            await self._say(key, Reason.OVERRIDDEN, said, "Warning")
        else:
            await self._say(key, Reason.SCALED, f"Scaled from {there} to {wanted} replicas: {memory.sentence}.")

    async def _spare_the_busy(self, key: Key, found: Scaled) -> None:
        """Have the ReplicaSet end idle replicas first. Best effort: what is busy drains anyway."""
        told = await self.supervisors.read_now(found.ready)
        now = self._services.get(key, found)
        for name, cost in costs(now.pods, told).items():
            uid = next(one.uid for one in now.pods if one.name == name)
            pod = {"apiVersion": "v1", "kind": POD.kind, "metadata": {"namespace": key[0], "name": name}}
            try:
                await self._client.merge(pod, {"metadata": {"uid": uid, "annotations": {COST: cost}}})
            except ApiError as error:
                if not error.missing and not error.conflict:
                    logger.warning("%s/%s: what its end costs was not written: %s", key[0], name, error)

    async def _say(self, key: Key, reason: Reason, message: str, kind: str = "Normal") -> None:
        logger.info("%s: %s", "/".join(key), message)
        if (service := self._cache.get(LLM_SERVICE, *key)) is not None and place_of(service) == key:
            await self._recorder.say(service, kind, reason, message)
