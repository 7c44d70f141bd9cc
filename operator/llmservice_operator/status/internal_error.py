"""The status of a service that a pass failed over by a bug. It trusts as little as it can: the bug may be anywhere."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, Finding, available, conditions, not_served, serving
from llmservice_operator.facts.values import Json, Outcome
from llmservice_operator.status.write import notes

TEXT_LIMIT = 300
"""Characters of the error's own text."""
_SINCE = re.compile(r" since (\S+Z): ")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")


def internal_error(service: Json, children: Sequence[Json], error: BaseException, now: datetime) -> Outcome:
    """Only words: what runs is left alone. The same bug again says the same, so that it is written once."""
    before: Json = service.get("status") or {}
    message = (
        f"The operator fails over this service by a bug of its own since {_since(before, now)}: {_what(error)}. "
        "What runs goes on, and the operator tries again by itself. Report it with the operator's log of that time; "
        "until it is mended, another release of the operator, or to undo the last edit, may help."
    )
    ready, wanted = _replicas(service, children)
    found = [Finding(ConditionType.PROGRESSING, FALSE, Reason.INTERNAL_ERROR, message)]
    if ready and before.get("url"):
        found += [available(ready, wanted), serving(ready, wanted, (Reason.INTERNAL_ERROR, message))]
    else:
        found += not_served(Reason.INTERNAL_ERROR, message)
    generation = service["metadata"].get("generation", 1)
    old = before.get("conditions") or []
    said = {str(finding.type) for finding in found}
    kept = [entry for entry in old if entry["type"] not in said]
    status = {
        **before,
        "observedGeneration": generation,
        "readyReplicas": ready,
        "ready": f"{ready}/{wanted}",
        "conditions": [*kept, *conditions(found, old, generation, now)],
    }
    # One Event: what is Ready says the same.
    return Outcome(status=status, notes=notes(found[:1], before))


def _replicas(service: Json, children: Sequence[Json]) -> tuple[int, int]:
    """(ready, wanted) as the Deployment and the spec say."""
    uid = service["metadata"]["uid"]
    mine = (
        child
        for child in children
        if child.get("kind") == "Deployment"
        and any(owner.get("uid") == uid for owner in child["metadata"].get("ownerReferences") or ())
    )
    deployed = next(mine, None) or {}
    ready = (deployed.get("status") or {}).get("readyReplicas", 0)
    return ready, (service.get("spec") or {}).get("replicas", 1)


def _since(before: Json, now: datetime) -> str:
    """The time of the first failure: status remembers it."""
    for entry in before.get("conditions") or ():
        if entry["reason"] == Reason.INTERNAL_ERROR and (found := _SINCE.search(entry["message"])):
            return found[1]
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _what(error: BaseException) -> str:
    """`KeyError: 'x' (llmservice_operator/facts/nodes.py, line 23)`; what differs from one time to the next is cut."""
    text = _ADDRESS.sub("0x...", str(error))[:TEXT_LIMIT]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "llmservice_" in frame.filename]
    said = f"{type(error).__name__}: {text}".rstrip(": ")
    if not frames:
        return said
    path = Path(frames[-1].filename)
    return f"{said} ({path.parent.name}/{path.name}, line {frames[-1].lineno})"
