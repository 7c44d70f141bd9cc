"""A cluster with one service, gateways and replicas that tell what a test says, and a clock that it moves."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from core_world import CONFIG, World  # type: ignore[import-not-found]

from llmservice_api.demand_lease import ServiceDemand, encode, lease
from llmservice_kube.errors import ApiError
from llmservice_operator.control.scaling import LOOK_SECONDS, Scaling
from llmservice_operator.control.supervisors import READ_SECONDS
from llmservice_operator.demand.replicas import Work
from llmservice_operator.facts.config import Gateway

Json = dict[str, Any]
KEY = ("apps", "demo")
WALL = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAY = dataclasses.replace(CONFIG, gateway=Gateway("llmservice-gateway", ()))
PLACES = 16
"""Of a replica, as it is planned here."""


class Recorder:
    """What Events say."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def say(self, service: Json, event_type: str, reason: str, message: str) -> None:
        self.said.append((str(reason), message))


class ScalingWorld:
    """Each replica that is asked for is there at once and ready, unless `starts` says how many are not."""

    def __init__(self, config: Any = GATEWAY, replicas: int = 1, **scaling: Any) -> None:
        self.world = World(config).edit(scaling={"maxReplicas": 8, **scaling}).served()
        self.world.service["spec"]["replicas"] = replicas
        self.now = 1000.0
        self.version = 100
        self.starts = 0
        self.busy: dict[str, int] = {}
        self.deaf = False
        self.refuses: ApiError | None = None
        self.writes: list[int] = []
        self.costs: dict[str, str] = {}
        self.woken = 0
        self.recorder = Recorder()
        self.gateways = {"a": ServiceDemand()}
        self.lead()

    def lead(self) -> None:
        """A new leader, which knows nothing."""
        self.scaling = Scaling(self, self, self.recorder, self.world.config, self._wake, lambda: self.now, self.wall)  # type: ignore[arg-type]
        self.changed()

    def wall(self) -> datetime:
        return WALL + timedelta(seconds=self.now)

    @property
    def replicas(self) -> int:
        found: int = self.world.service["spec"]["replicas"]
        return found

    def person(self, replicas: int) -> None:
        """Somebody scales."""
        self.world.service["spec"]["replicas"] = replicas
        self.changed()

    def changed(self) -> None:
        self.version += 1
        self.scaling.changed([KEY])

    async def turn(self, seconds: float = LOOK_SECONDS, urgent: bool = False, **demand: int) -> int:
        """Time passes, gateways tell `demand` (until something else is said), and it is decided."""
        if demand:
            self.gateways = dict.fromkeys(self.gateways, ServiceDemand(**demand))
        end = self.now + seconds
        while self.now < end or urgent:
            self.now = min(end, self.now + LOOK_SECONDS)
            self._tell()
            await self._decide()
            if urgent:
                break
        return self.replicas

    def _tell(self) -> None:
        for name, demand in self.gateways.items():
            text = encode({"apps/demo": demand})
            self.scaling.lease("MODIFIED", lease("llm", name, text, now=self.wall(), began=WALL))
        if not self.deaf:
            for one in self._pods():
                if one["metadata"]["uid"] in {known.uid for known in self._ready()}:
                    running = self.busy.get(one["metadata"]["name"], 0)
                    self.scaling.supervisors.told[one["metadata"]["uid"]] = Work(running, 0, None, self.now)

    def _ready(self) -> Any:
        found = self.scaling._services.get(KEY)
        return found.ready if found else ()

    async def _decide(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self.scaling.turn(tasks)

    def _wake(self, _: object) -> None:
        self.woken += 1
        self.world.scaling = self.scaling.told(KEY)

    # The cache.

    def get(self, kind: object, namespace: str, name: str) -> Json | None:
        service: Json = copy.deepcopy(self.world.service)
        service["metadata"]["resourceVersion"] = str(self.version)
        return service

    def of(self, key: object) -> list[Json]:
        return [obj for (kind, _), obj in self.world.objects.items() if kind != "Pod"] + self._pods()

    def _pods(self) -> list[Json]:
        return [self._pod(number) for number in range(self.replicas)]

    def _pod(self, number: int) -> Json:
        ready = number < self.replicas - self.starts
        pod = self.world.replica(f"demo-{number}", ready=ready, podIP="10.0.0.1")
        pod["metadata"] |= {"uid": f"p-{number}", "annotations": {}}
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True" if ready else "False"}]
        found: Json = self.world.objects.pop(("Pod", f"demo-{number}"))
        return found

    # The client.

    async def rescale(self, kind: object, namespace: str, name: str, uid: str, replicas: int) -> Json | None:
        if self.refuses is not None:
            raise self.refuses
        self.writes.append(replicas)
        self.world.service["spec"]["replicas"] = replicas
        self.changed()
        return {"metadata": {"resourceVersion": str(self.version)}, "spec": {"replicas": replicas}}

    async def merge(self, obj: Json, fields: Json) -> Json:
        (cost,) = fields["metadata"]["annotations"].values()
        self.costs[obj["metadata"]["name"]] = cost
        return obj


__all__ = ["GATEWAY", "KEY", "LOOK_SECONDS", "PLACES", "READ_SECONDS", "ScalingWorld"]
