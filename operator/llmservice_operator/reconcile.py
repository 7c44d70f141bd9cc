"""One reconcile: a pure function of what was observed.

    read -> prepare (Job) -> plan -> freeze (ControllerRevision) -> cache -> roll out (Deployment) -> status

Every step looks at what is there and says what should be; nothing is remembered between two calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import TRUE, Finding
from llmservice_api.scaling import ScalingSpec
from llmservice_operator.decide.decision import decide
from llmservice_operator.decide.refusals import in_words
from llmservice_operator.decide.upkeep import upkeep
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live, live_of
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.passed_on import owner_of
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.service import read_service
from llmservice_operator.facts.values import Json, Observed, Outcome
from llmservice_operator.facts.waiting import unclear
from llmservice_operator.status.findings import findings, invalid
from llmservice_operator.status.load import earlier_loads, load_of
from llmservice_operator.status.picture import Picture
from llmservice_operator.status.plan_status import plan_status
from llmservice_operator.status.scaling import scaling_status
from llmservice_operator.status.write import notes, status

LOOK_SECONDS = 30.0
"""While something is under way, or no node takes a replica: what autoscalers say wakes nobody."""
FOREIGN_SECONDS = 20.0
"""While a foreign object has the name of a child: nobody tells when it goes."""


def reconcile(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
    """What to write so that the cluster becomes what the service's spec asks for. `now` is in UTC."""
    if "deletionTimestamp" in observed.service["metadata"]:
        return Outcome()  # ownerReferences clean up
    owner = owner_of(observed.service, config)
    current = observed.service.get("status", {}).get("currentRevision", "")
    live = live_of(owner, observed.children, observed.events, current)
    if observed.service["spec"].get("podTemplate"):
        observed = dataclasses.replace(observed, refused=tuple(map(in_words, observed.refused)))
    read = read_service(observed.service, config)
    if isinstance(read, Problem):
        # Terminal until the spec is edited: what runs is kept running, and nothing else is tried.
        kept = upkeep(owner, live, observed.service["spec"], config, now)
        outcome = Outcome(kept.apply, requeue_after=kept.requeue_after)
        found = invalid(read, observed, owner, live)
        return _report(outcome, found, kept.in_force, None, live, owner, observed, config, now)
    scaling = read.service.spec.scaling
    decision = decide(read.service, owner, live, observed, config, now)
    outcome = Outcome(decision.apply, decision.delete, requeue_after=decision.requeue_after, pokes=decision.pokes)
    picture = Picture(owner, decision, observed, live, now, read.ignored)
    found, adapters = findings(picture), picture.adapters
    made = decision.in_force, decision.target
    return _report(outcome, found, *made, live, owner, observed, config, now, scaling, adapters)


def _report(
    outcome: Outcome,
    found: list[Finding],
    in_force: Frozen | None,
    target: Frozen | None,
    live: Live,
    owner: Owner,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
    scaling: ScalingSpec | None = None,
    adapters: Sequence[Json] = (),
) -> Outcome:
    """The outcome with its status and Events."""
    before = observed.service.get("status", {})
    said = status(found, live, owner, observed.service, in_force or target, config, now)
    said["installation"] = config.operator_namespace
    if told := scaling_status(scaling, observed):
        said["scaling"] = told
    if adapters:
        said["adapters"] = list(adapters)
    load = load_of(in_force, live, observed) if in_force is not None else None
    if earlier := earlier_loads(before, in_force.name if in_force else "", load):
        said["earlierLoads"] = earlier
    if in_force is not None:
        said |= {"plan": plan_status(in_force, config), "currentRevision": in_force.name}
        if load is not None:
            said["load"] = load
    again = _again(found, observed, outcome)
    return dataclasses.replace(outcome, status=said, notes=notes(found, before), requeue_after=again)


def _again(found: list[Finding], observed: Observed, outcome: Outcome) -> float | None:
    """While something is under way it is looked at now and then: some failures are only told by time, or by Events."""
    asked = outcome.requeue_after
    if any(finding.type is ConditionType.NAME_CONFLICT and finding.status == TRUE for finding in found):
        return min(asked if asked is not None else FOREIGN_SECONDS, FOREIGN_SECONDS)
    under_way = bool(unclear(observed.children)) or any(
        (finding.type is ConditionType.PROGRESSING and finding.status == TRUE)
        or (finding.type is ConditionType.SCHEDULED and finding.status != TRUE and finding.reason != Reason.WAITING)
        for finding in found
    )
    return min(asked if asked is not None else LOOK_SECONDS, LOOK_SECONDS) if under_way else asked
