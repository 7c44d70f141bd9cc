"""What Events tell of pods and Jobs that wait: a node that is being added, a volume that is missing, a quota.

Events are read for children that wait, and anew in each pass: nothing is remembered, and a lost Event loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from llmservice_operator.facts.values import Json

NODE_SECONDS = 900.0
"""So long after it was announced a node may take to come: the Cluster Autoscaler's max-node-provision-time."""
MOST = 4
"""Children of one service whose Events are read in a pass, newest first: the others wait for the same reason."""
_COMING = frozenset(("TriggeredScaleUp", "Nominated"))
"""Words of the Cluster Autoscaler and of Karpenter for a node that is on its way."""
_NOT_COMING = "NotTriggerScaleUp"
_KARPENTER = "karpenter"


def unclear(children: Iterable[Json]) -> tuple[str, ...]:
    """uids of what waits: pods that have no node or no container yet, or were ended by their node, Jobs without a pod,
    and claims without a volume."""
    found = [child["metadata"] for child in children if _waits(child)]
    found.sort(key=lambda metadata: metadata.get("creationTimestamp", ""), reverse=True)
    return tuple(metadata["uid"] for metadata in found[:MOST] if "uid" in metadata)


def _waits(child: Json) -> bool:
    if "deletionTimestamp" in child["metadata"]:
        return False
    status = child.get("status", {})
    if child["kind"] == "Pod":
        begun = any("running" in c["state"] or "terminated" in c["state"] for c in _containers(status))
        evicted = status.get("phase") == "Succeeded" and child["spec"].get("restartPolicy") == "Always"
        return (status.get("phase", "Pending") == "Pending" and not begun) or evicted
    if child["kind"] == "PersistentVolumeClaim":
        return bool(status.get("phase") == "Pending")
    ended = any(entry["status"] == "True" for entry in status.get("conditions", ()))
    return child["kind"] == "Job" and not ended and not any(status.get(name) for name in ("active", "failed"))


def _containers(status: Json) -> list[Json]:
    found = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    return [container for container in found if container.get("state")]


def about(events: Iterable[Json], *uids: str) -> tuple[Json, ...]:
    """The Events about these objects, oldest first."""
    mine = [event for event in events if event.get("involvedObject", {}).get("uid") in uids]
    return tuple(sorted(mine, key=said_at))


def said_at(event: Json) -> str:
    """When it was said last, as the API writes times: they sort as text to the second."""
    series = (event.get("series") or {}).get("lastObservedTime")
    times = (series, event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return max((time[:19] for time in times if time), default="")


def last(events: Sequence[Json], *reasons: str) -> str:
    """The sentence of the newest Event with one of these reasons; empty without one."""
    said = [_sentence(event) for event in events if event.get("reason") in reasons]
    return said[-1] if said else ""


def coming_node(events: Sequence[Json], now: datetime) -> str:
    """What a node autoscaler said of the node that it adds for the pod; empty when none is on its way."""
    told = [event for event in events if event.get("reason") in _COMING or _refuses(event)]
    if not told or _refuses(told[-1]) or not (at := said_at(told[-1])):
        return ""
    waited = (now - datetime.fromisoformat(f"{at}+00:00")).total_seconds()
    return _sentence(told[-1]) if waited < NODE_SECONDS else ""


def no_node_comes(events: Sequence[Json]) -> str:
    """Why a node autoscaler adds none; empty when it did not say."""
    told = [event for event in events if event.get("reason") in _COMING or _refuses(event)]
    return _sentence(told[-1]) if told and _refuses(told[-1]) else ""


def _sentence(event: Json) -> str:
    """In one line, without its end: policies speak in several."""
    return " ".join((event.get("message") or "").split()).rstrip(".")


def _refuses(event: Json) -> bool:
    """The scheduler says FailedScheduling as well, of the nodes that are there."""
    by = (event.get("source", {}).get("component"), event.get("reportingComponent"))
    return event.get("reason") == _NOT_COMING or (event.get("reason") == "FailedScheduling" and _KARPENTER in by)
