"""The status of a service that can't be read: larger than a pass can look at, or in a shape that no parser takes."""

from __future__ import annotations

from datetime import datetime

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, Finding, conditions, not_served
from llmservice_operator.facts.values import Json, Outcome
from llmservice_operator.status.write import notes


def unreadable(service: Json, why: str, now: datetime) -> Outcome:
    """Only words: what runs is left alone, and so is what status says of it. `service` is the stand-in of a cache."""
    before: Json = service.get("status") or {}
    generation = service["metadata"].get("generation", 1)
    message = (
        f"This LLMService can't be read: {why}. What runs goes on as it is. Make its podTemplate, its "
        "annotations or its labels smaller and less deep."
    )
    found = [Finding(ConditionType.SPEC_VALID, FALSE, Reason.INVALID, message)]
    if not before.get("url"):
        found += not_served(Reason.INVALID, message)
    old = before.get("conditions") or []
    said = {str(finding.type) for finding in found}
    kept = [entry for entry in old if entry["type"] not in said]
    status = {
        **before,
        "observedGeneration": generation,
        "conditions": [*kept, *conditions(found, old, generation, now)],
    }
    return Outcome(status=status, notes=notes(found[:1], before))
