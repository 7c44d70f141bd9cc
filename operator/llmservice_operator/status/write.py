"""The whole status from findings, and the Events that tell its transitions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, TRUE, UNKNOWN, Finding, conditions
from llmservice_api.labels import selector
from llmservice_operator.children.service import leads_to_replicas, url
from llmservice_operator.facts.access import access_of
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.values import Json, Note
from llmservice_planning.told import model_status
from llmservice_runtime.prepare.report import Prepared

TOLD = (
    ConditionType.SPEC_VALID,
    ConditionType.MODEL_RESOLVED,
    ConditionType.PLANNED,
    ConditionType.CACHED,
    ConditionType.SCHEDULED,
    ConditionType.PROGRESSING,
    ConditionType.METRICS_AVAILABLE,
    ConditionType.ADAPTERS_READY,
    ConditionType.READY,
)
"""Conditions whose transitions become Events, one Event per reason and sentence."""
ROUTINE = (
    Reason.NOT_NEEDED,
    Reason.PER_REPLICA,
    Reason.PER_NODE,
    Reason.VALID,
    Reason.STOPPED,
    Reason.IDLE,
    Reason.METRICS_FOUND,
    Reason.NO_CONFLICT,
    Reason.SCHEDULED,
)
"""Reasons that are no news: the scheduler tells itself which node a replica got."""


def status(
    found: Sequence[Finding],
    live: Live,
    owner: Owner,
    service: Json,
    resolved: Frozen | None,
    config: OperatorConfig,
    now: datetime,
) -> Json:
    """What status says now; the time of a condition stays while its status does. `resolved` is the plan whose model is
    told: the one in force, else the one whose files are being brought."""
    generation: int = service["metadata"].get("generation", 1)
    deployed = (live.deployment or {}).get("status", {})
    before = service.get("status", {}).get("conditions", ())
    body: Json = {
        "observedGeneration": generation,
        "replicas": deployed.get("replicas", 0),
        "readyReplicas": deployed.get("readyReplicas", 0),
        "ready": f"{deployed.get('readyReplicas', 0)}/{service.get('spec', {}).get('replicas', 1)}",
        "selector": selector(owner.selector),
        "conditions": conditions(found, before, generation, now),
    }
    if leads_to_replicas(owner, live.service):
        body["url"] = url(owner, access_of(service["spec"], config), config)
    if resolved is not None and (model := _model(resolved)):
        body["model"] = model
    return body


def _model(plan: Frozen) -> Json:
    """The model of a plan; of one that another release wrote its revision alone."""
    try:
        facts = Prepared.from_json(plan.prepared).facts
    except ValueError:
        return {"resolvedRevision": plan.resolved_revision} if plan.resolved_revision else {}
    return model_status(facts, plan.resolved_revision).model_dump(by_alias=True, exclude_none=True)


def notes(found: Sequence[Finding], before: Json) -> tuple[Note, ...]:
    """An Event for each condition that changed its status or reason."""
    old = {condition["type"]: condition for condition in before.get("conditions", ())}
    told: dict[tuple[str, str], Note] = {}
    for finding in found:
        known = old.get(str(finding.type), {"status": UNKNOWN, "reason": ""})
        same = (known["status"], known["reason"]) == (finding.status, str(finding.reason))
        done = finding.type == ConditionType.PROGRESSING and finding.reason == Reason.READY  # which Ready tells
        if same or done or finding.type not in TOLD or finding.status == UNKNOWN or finding.reason in ROUTINE:
            continue
        told.setdefault(
            (str(finding.reason), finding.message), Note(_kind(finding), str(finding.reason), finding.message)
        )
    return tuple(told.values())


_NORMAL_ENDS = {
    Reason.READY, Reason.STARTING, Reason.RESOLVING, Reason.DOWNLOADING, Reason.ROLLING_OUT, Reason.WAITING,
}  # fmt: skip


def _kind(finding: Finding) -> str:
    """A warning is what someone should look at."""
    good = finding.status == TRUE or (finding.status == FALSE and finding.reason in _NORMAL_ENDS)
    return "Normal" if good and finding.reason != Reason.REPLACING_IN_PLACE else "Warning"
