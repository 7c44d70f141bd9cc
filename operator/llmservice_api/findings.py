"""What is found about a service, in a cluster and on one machine: one finding per condition type, and the sentences
that both say. A finding is a condition without its times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmservice_api.conditions import ConditionType, Reason
from llmservice_runtime.contract.plain import plain

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
MESSAGE_LIMIT = 32768
"""Characters of a condition's message."""
_ORDER = (
    ConditionType.SPEC_VALID,
    ConditionType.MODEL_RESOLVED,
    ConditionType.PLANNED,
    ConditionType.CACHED,
    ConditionType.SCHEDULED,
    ConditionType.PROGRESSING,
    ConditionType.AVAILABLE,
    ConditionType.METRICS_AVAILABLE,
    ConditionType.SCALING_ACTIVE,
    ConditionType.ADAPTERS_READY,
    ConditionType.NAME_CONFLICT,
    ConditionType.READY,
)
"""Steps as they follow each other, and the answer to all of them last."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`reason` is a Reason or a FailureClass; `message` a sentence with its remedy."""

    type: ConditionType
    status: str
    reason: str
    message: str


def conditions(
    found: Iterable[Finding], before: Iterable[Mapping[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """status.conditions as the API spells them, in their order; a time stays while its status does. `now` is in UTC."""
    old = {condition["type"]: condition for condition in before}
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    made = []
    for finding in sorted(found, key=lambda finding: _ORDER.index(finding.type)):
        known = old.get(str(finding.type))
        same = known is not None and known["status"] == finding.status
        made.append(
            {
                "type": str(finding.type),
                "status": finding.status,
                "reason": str(finding.reason),
                "message": plain(finding.message)[:MESSAGE_LIMIT],
                "lastTransitionTime": known["lastTransitionTime"] if known and same else stamp,
                "observedGeneration": generation,
            }
        )
    return made


def valid(ignored: Sequence[str] = ()) -> Finding:
    """SpecValid. `ignored` are fields that a CustomResourceDefinition of another release has."""
    kind = ConditionType.SPEC_VALID
    if not ignored:
        return Finding(kind, TRUE, Reason.VALID, "The spec is valid.")
    said = (
        f"The spec is valid, but for what this release of the operator does not know and ignores: "
        f"{', '.join(ignored[:20])}. The CustomResourceDefinition is of another release: bring the operator to it."
    )
    return Finding(kind, TRUE, Reason.FIELDS_IGNORED, said)


def resolved(revision: str, why: str = "") -> Finding:
    """ModelResolved, to a commit, digest or ETag (empty: the source has none); `why` it was read another time."""
    said = f"The model is fixed at {revision}." if revision else "The model's headers were read."
    return Finding(ConditionType.MODEL_RESOLVED, TRUE, Reason.RESOLVED, f"{said} {why}".strip())


def available(ready: int, wanted: int) -> Finding:
    """Available, with at least one replica that requests reach."""
    return Finding(ConditionType.AVAILABLE, TRUE, Reason.READY, f"{ready} of {wanted} replicas are ready.")


def as_asked() -> Finding:
    """Progressing, once there is nothing left to do."""
    return Finding(ConditionType.PROGRESSING, FALSE, Reason.READY, "All replicas are as the spec says.")


def serving(ready: int, wanted: int, beside: tuple[str, str] | None = None) -> Finding:
    """Ready, as the spec says; `beside` is the (reason, message) of what is wrong all the same."""
    reason, message = beside or (Reason.READY, "")
    said = f"{_serve(ready, wanted)}. {message}".strip()
    return Finding(ConditionType.READY, TRUE, reason, said)


def serving_earlier(ready: int, wanted: int, reason: str, message: str) -> Finding:
    """Ready, and not as the spec says: both are told in one line."""
    said = (
        f"{_serve(ready, wanted)} as an earlier spec says, because this one can't be carried out ({reason}): {message}"
    )
    return Finding(ConditionType.READY, TRUE, Reason.SERVING_EARLIER, said)


def not_served(reason: str, message: str) -> list[Finding]:
    """Available and Ready, when no request is answered."""
    return [Finding(kind, FALSE, reason, message) for kind in (ConditionType.AVAILABLE, ConditionType.READY)]


def idle(message: str) -> list[Finding]:
    """Ready with nothing available: a request made now is held, and served once a replica has started."""
    return [
        Finding(ConditionType.AVAILABLE, FALSE, Reason.IDLE, message),
        Finding(ConditionType.READY, TRUE, Reason.IDLE, message),
    ]


def _serve(ready: int, wanted: int) -> str:
    return f"{ready} of {wanted} replicas serve requests"
