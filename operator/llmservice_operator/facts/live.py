"""What of the cluster belongs to one service, sorted by what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from llmservice_api.labels import COMPONENT, PREPARE, REVISION, RUNTIME
from llmservice_operator.facts.frozen import Frozen, thaw
from llmservice_operator.facts.owner import Json, Owner, owns
from llmservice_operator.facts.waiting import about

JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")


@dataclass(frozen=True, slots=True)
class Live:
    """Pods are sorted oldest first, without those that are ending."""

    deployment: Json | None
    jobs: dict[str, Json]
    replicas: tuple[Json, ...]
    prepare_pods: tuple[Json, ...]
    revisions: dict[str, Json]
    events: tuple[Json, ...] = ()
    claim: Json | None = None
    """The claim that was made for the cache."""
    service: Json | None = None
    current: str = ""
    """Name of the plan in force as status has it: the Deployment says it, unless somebody deleted that."""
    readings: dict[str, Json] = field(default_factory=dict)
    """What Jobs read, by their names, where no plan keeps it."""
    adapter_map: Json | None = None
    """The ConfigMap that says which adapters replicas load."""

    def events_of(self, child: Json) -> tuple[Json, ...]:
        """What was said about a pod or a Job that waits, and about the claim it may wait for, oldest first."""
        claim = (self.claim or {}).get("metadata", {})
        volumes = child["spec"].get("volumes", ())
        mounts = any(v.get("persistentVolumeClaim", {}).get("claimName") == claim.get("name") for v in volumes)
        return about(self.events, child["metadata"].get("uid", ""), claim.get("uid", "") if mounts else "")

    def running(self) -> Frozen | None:
        """The plan that the Deployment was last given."""
        name = self.current
        if self.deployment is not None:
            name = self.deployment["spec"].get("template", {}).get("metadata", {}).get("labels", {}).get(REVISION, "")
        kept = self.revisions.get(name)
        return thaw(kept) if kept else None

    def claim_bound(self) -> bool:
        """Whether the cache's claim has its volume, and with it perhaps a node."""
        return self.claim is not None and self.claim.get("status", {}).get("phase") == "Bound"

    def pods_of_job(self, name: str) -> tuple[Json, ...]:
        """Pods of a prepare Job, newest last."""
        return tuple(pod for pod in self.prepare_pods if name in (_labels(pod).get(label) for label in JOB_LABELS))


def live_of(owner: Owner, children: Iterable[Json], events: tuple[Json, ...] = (), current: str = "") -> Live:
    """Sort what carries the service's label; what another owner controls is left out. `current` as in Live."""
    deployment: Json | None = None
    claim: Json | None = None
    service: Json | None = None
    adapter_map: Json | None = None
    jobs: dict[str, Json] = {}
    revisions: dict[str, Json] = {}
    readings: dict[str, Json] = {}
    replicas: list[Json] = []
    prepare: list[Json] = []
    for child in children:
        kind, name = child["kind"], child["metadata"]["name"]
        if kind == "Pod":
            if "deletionTimestamp" not in child["metadata"]:
                (replicas if _labels(child).get(COMPONENT) == RUNTIME else prepare).append(child)
        elif owns(owner, child):
            if kind == "Deployment":
                deployment = child
            elif kind == "Job":
                jobs[name] = child
            elif kind == "ControllerRevision":
                (readings if _labels(child).get(COMPONENT) == PREPARE else revisions)[name] = child
            elif kind == "PersistentVolumeClaim":
                claim = child
            elif kind == "Service":
                service = child
            elif kind == "ConfigMap":
                adapter_map = child
    pods = _by_age(replicas), _by_age(prepare)
    return Live(deployment, jobs, *pods, revisions, events, claim, service, current, readings, adapter_map)


def condition(obj: Mapping[str, Any], kind: str) -> Json | None:
    """A condition of an object's status."""
    found: list[Json] = obj.get("status", {}).get("conditions", [])
    return next((entry for entry in found if entry["type"] == kind), None)


def holds(obj: Mapping[str, Any], kind: str) -> bool:
    """Whether a condition is True."""
    found = condition(obj, kind)
    return found is not None and found["status"] == "True"


def revision_of(pod: Mapping[str, Any]) -> str:
    """The revision that a replica runs."""
    return _labels(pod).get(REVISION, "")


def seconds_since(text: str | None, now: datetime) -> float:
    """Age of a time as the API writes it; 0 when it is missing or in the future."""
    if not text:
        return 0.0
    return max(0.0, (now - datetime.fromisoformat(text)).total_seconds())


def _labels(obj: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("labels", {})
    return found


def _by_age(pods: Iterable[Json]) -> tuple[Json, ...]:
    return tuple(sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"])))
