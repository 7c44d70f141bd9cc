"""What a service's replicas tell of themselves: who is ready, who starts, and what each has to do. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_operator.facts.live import holds
from llmservice_operator.facts.pod_fields import CONTAINER
from llmservice_scaling.signals import STALE_SECONDS, UNHEARD, Reading

Json = dict[str, Any]
PATIENCE = 2
"""Starts of the engine's container that failed, after which a replica is not waited for."""
COST = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation: of the pods that a ReplicaSet could end, it ends the cheapest first."""


RECENT_SECONDS = 10.0
"""Whoever had requests within so long is not idle: short ones come and go between two reports."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One pod that is not ending."""

    uid: str
    name: str
    address: str = ""
    ready: bool = False
    failed: bool = False
    """It was started often enough to know that it won't come."""
    cost: str = ""
    """What its end was said to cost."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a replica has to do, as its supervisor told it, or Prometheus of it, at `at` (monotonic seconds)."""

    running: float
    waiting: float
    kv_used: float | None
    at: float
    lasts: float = STALE_SECONDS
    """Seconds that it can be believed."""
    idle: float | None = None
    """Seconds since it had something to do, at `at`; None = it had nothing yet, or does not tell."""

    @property
    def requests(self) -> float:
        """That it has."""
        return self.running + self.waiting


def replica(pod: Json) -> Replica:
    """A pod of the Deployment, without deletionTimestamp."""
    metadata, status = pod["metadata"], pod.get("status", {})
    return Replica(
        uid=metadata["uid"],
        name=metadata["name"],
        address=status.get("podIP", ""),
        ready=holds(pod, "Ready"),
        failed=_failed(status),
        cost=str((metadata.get("annotations") or {}).get(COST, "")),
    )


def work(body: Mapping[str, Any], at: float) -> Work:
    """A supervisor's /status. Raises ValueError for what is none: who answers there is the tenant's."""
    running, waiting, used = body.get("running"), body.get("waiting"), body.get("kv_used")
    idle = body.get("seconds_since_work")
    for count in (running, waiting):
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 1_000_000:
            raise ValueError("it does not tell how many requests it has")
    if used is not None and (isinstance(used, bool) or not isinstance(used, int | float) or not 0 <= used <= 1):
        raise ValueError("what it tells of its KV cache is no share")
    if idle is not None and (isinstance(idle, bool) or not isinstance(idle, int | float) or not idle >= 0):
        raise ValueError("what it tells of its last work is no time")
    assert isinstance(running, int) and isinstance(waiting, int)
    return Work(running, waiting, None if used is None else float(used), at, idle=idle)


def requests(replicas: Iterable[Replica], told: Mapping[str, Work], now: float) -> Reading:
    """In all engines that are ready; exactly 0 where none is."""
    ready = [one for one in replicas if one.ready]
    known = [told[one.uid] for one in ready if one.uid in told]
    if not ready:
        return Reading(0.0, now)
    if not known:
        return UNHEARD
    oldest = min(known, key=lambda one: one.at)
    return Reading(_sum(one.requests for one in known), oldest.at, len(known) == len(ready), oldest.lasts)


def kv_used(replicas: Iterable[Replica], told: Mapping[str, Work]) -> Reading | None:
    """Of all KV caches together, in replicas; None where nobody measures it. One that had nothing to do yet uses none.

    Whether all were heard is told by `requests` already, so it says nothing of that.
    """
    known = [told[one.uid] for one in replicas if one.ready and one.uid in told]
    measured = [one for one in known if one.kv_used is not None]
    if not measured:
        return None
    oldest = min(measured, key=lambda one: one.at)
    return Reading(_sum(one.kv_used or 0.0 for one in measured), oldest.at, lasts=oldest.lasts)


def costs(replicas: Iterable[Replica], told: Mapping[str, Work]) -> dict[str, str]:
    """Pod -> what its end is to cost, where that differs from what is said: as many as it has requests, so that the
    idle go first. One that had some a moment ago will have some again; one that is ready and did not tell costs more
    than any, since what it does is not known."""
    wanted = {}
    for one in replicas:
        if not one.ready:
            cost = 0  # the ReplicaSet takes these first anyway
        elif one.uid in told:
            work = told[one.uid]
            cost = int(work.requests) or int(work.idle is not None and work.idle < RECENT_SECONDS)
        else:
            cost = 1_000_000
        if (one.cost or "0") != str(cost):
            wanted[one.name] = str(cost)
    return wanted


def _sum(values: Iterable[float]) -> float:
    """NaN where one of them is nothing that can be: others must not make up for it."""
    found = list(values)
    return math.fsum(found) if all(math.isfinite(value) and value >= 0 for value in found) else math.nan


def _failed(status: Mapping[str, Any]) -> bool:
    if status.get("phase") == "Failed":
        return True
    engine = next((one for one in status.get("containerStatuses", ()) if one["name"] == CONTAINER), None)
    return engine is not None and not engine.get("ready") and engine.get("restartCount", 0) >= PATIENCE
