"""The load of the plan in force as status keeps it: written once for each load, not for each replica that has one."""

from __future__ import annotations

from llmservice_api.loads import load_status
from llmservice_api.status import EarlierLoad
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live, revision_of
from llmservice_operator.facts.values import Json, Observed

MOST_EARLIER = 8


def load_of(in_force: Frozen, live: Live, observed: Observed) -> Json | None:
    """`status.load`: of the replica that it is of already, while that is there; else of the newest that told one. What
    was measured stays when nobody is there who could tell it, or the operator has just begun."""
    before: Json | None = observed.service.get("status", {}).get("load")
    if before is not None and before.get("revision") != in_force.name:
        before = None
    mine = [pod for pod in live.replicas if revision_of(pod) == in_force.name]
    mine.sort(key=lambda pod: before is not None and pod["metadata"]["name"] == before.get("pod"))  # stable: ages stay
    for pod in reversed(mine):
        told = observed.loads.get(pod["metadata"].get("uid", ""))
        if told is not None and (found := load_status(told, in_force.name, pod["metadata"]["name"])) is not None:
            return found.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        if before is not None and pod["metadata"]["name"] == before.get("pod"):
            break
    return before


def earlier_loads(before: Json, in_force: str, load: Json | None) -> list[Json]:
    """`status.earlierLoads`, the last first: times of plans other than the one whose load is told now. That of a plan
    which is in force again stays until it is measured anew. `before` is the status so far."""
    found = list(before.get("earlierLoads", ()))
    last = before.get("load")
    if last is not None and last.get("revision"):
        found.insert(0, {name: last[name] for name in EarlierLoad.model_fields})
    told = in_force if load is not None else ""
    by_revision: dict[str, Json] = {}
    for one in found:
        by_revision.setdefault(one["revision"], one)
    by_revision.pop(told, None)
    return list(by_revision.values())[:MOST_EARLIER]
