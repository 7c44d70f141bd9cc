"""The load of the plan in force as status keeps it: written once for each load, not for each replica that has one."""

from __future__ import annotations

from llmservice_api.loads import load_status
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live, revision_of
from llmservice_operator.facts.values import Json, Observed


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
