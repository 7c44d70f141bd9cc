"""What is known of a service at this moment, as findings: one per condition type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.conditions import ConditionType, Reason
from llmservice_operator.decide.decision import Decision
from llmservice_operator.diagnosis.pods import Case, ended_by_node, pod_problem
from llmservice_operator.diagnosis.refusal import way_out
from llmservice_operator.facts.live import Live, condition, holds, revision_of
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import NAME_CONFLICT, Json, Observed, Refused

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
_WAITS = (Reason.WAITING, Reason.ADDING_NODE)
"""Obstacles that pass by themselves."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its times."""

    type: ConditionType
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What was decided, and what the replicas are doing."""

    decision: Decision
    observed: Observed
    live: Live
    now: datetime

    @property
    def desired(self) -> int:
        """Replicas that are wanted."""
        return self.decision.service.spec.replicas

    @property
    def ready(self) -> int:
        """Replicas that serve, of any revision."""
        found: int = (self.live.deployment or {}).get("status", {}).get("readyReplicas", 0)
        return found

    def serves_target(self) -> bool:
        """Whether a replica of the plan for this very spec is ready."""
        target = self.decision.target
        return any(target and revision_of(pod) == target.name and holds(pod, "Ready") for pod in self.live.replicas)

    def refused(self) -> Problem | None:
        """A write that the API server refused, foreign names first: nothing else can be done about these."""
        refused = sorted(self.observed.refused, key=lambda found: found.reason != NAME_CONFLICT)
        return _write_problem(refused[0]) if refused else None

    def replica_problem(self) -> Problem | None:
        """The first thing that is wrong with a replica of the plan in force, newest first."""
        frozen = self.decision.in_force
        if frozen is None or self.live.deployment is None:
            return None
        nodes = self.observed.nodes
        exists = nodes is None or any(name == frozen.resource for kind in nodes for name, _ in kind.resources)
        for pod in reversed(self.live.replicas):
            replaced = ended_by_node(pod) and self.ready >= self.desired
            if (
                revision_of(pod) == frozen.name
                and not replaced
                and (problem := pod_problem(Case(pod, self.now, frozen.resource, exists, self.live.events_of(pod))))
            ):
                return problem
        failed = condition(self.live.deployment, "ReplicaFailure")
        if failed is not None and failed["status"] == TRUE:
            said = failed.get("message", "").rstrip(".")
            return Problem(Reason.WRITE_REFUSED, f"Replicas can't be created: {said}. {way_out(said)}")
        return None


def findings(picture: Picture) -> list[Finding]:
    """Every condition, in a fixed order."""
    steps = [
        Finding(ConditionType.SPEC_VALID, TRUE, Reason.VALID, "The spec is valid."),
        _resolved(picture),
        _planned(picture),
        _cached(picture),
        _scheduled(picture),
        _progressing(picture),
        _available(picture),
        _conflict(picture.observed.refused),
    ]
    return [*steps, _ready(picture)]


def invalid(problem: Problem, observed: Observed, ready: int) -> list[Finding]:
    """Of a spec that can't be acted upon: what runs is left as it is."""
    if ready:
        available = Finding(ConditionType.AVAILABLE, TRUE, Reason.READY, f"{_count(ready)} ready.")
        serving = _serving_earlier(f"{_count(ready)} serving requests", problem)
    else:
        available = Finding(ConditionType.AVAILABLE, FALSE, problem.reason, problem.message)
        serving = Finding(ConditionType.READY, FALSE, problem.reason, problem.message)
    return [
        Finding(ConditionType.SPEC_VALID, FALSE, problem.reason, problem.message),
        Finding(ConditionType.PROGRESSING, FALSE, problem.reason, problem.message),
        available,
        _conflict(observed.refused),
        serving,
    ]


def _resolved(picture: Picture) -> Finding:
    decision, made = picture.decision, picture.decision.preparation
    kind = ConditionType.MODEL_RESOLVED
    if decision.target or made.prepared:
        revision = decision.target.resolved_revision if decision.target else made.prepared and made.prepared.revision
        what = f"The model is fixed at {revision}." if revision else "The model's headers were read."
        return Finding(kind, TRUE, Reason.RESOLVED, what)
    if made.problem:
        return Finding(kind, FALSE, made.problem.reason, made.problem.message)
    return Finding(kind, UNKNOWN, Reason.RESOLVING, "A Job reads the model's headers.")


def _planned(picture: Picture) -> Finding:
    decision, kind = picture.decision, ConditionType.PLANNED
    if decision.refusal:
        return Finding(kind, FALSE, decision.refusal.reason, decision.refusal.message)
    if decision.target is None:
        return Finding(kind, UNKNOWN, Reason.WAITING, "The model's facts are not known yet.")
    said = f"{decision.target.summary}. {decision.target.reason}"
    unknown = decision.target.fit == "Unknown"
    if unknown:
        said += " Whether it fits is not known from the nodes; it is tried."
    return Finding(kind, TRUE, Reason.FIT_UNKNOWN if unknown else Reason.FITS, said)


def _cached(picture: Picture) -> Finding:
    decision, kind = picture.decision, ConditionType.CACHED
    problem = decision.preparation.problem
    if not decision.access.remote:
        return Finding(kind, TRUE, Reason.NOT_NEEDED, "The model is read where it is.")
    if node := decision.service.spec.cache.host_path:
        said = f"Each node keeps the model in {node.path}; a replica downloads it where it is not there yet."
        return Finding(kind, TRUE if picture.serves_target() else FALSE, Reason.PER_NODE, said)
    if not decision.access.shared:
        said = "Every replica downloads the model when it starts. A cache on a PersistentVolumeClaim does it once."
        return Finding(kind, FALSE, Reason.PER_REPLICA, said)
    if decision.cached:
        return Finding(kind, TRUE, Reason.CACHED, "The model's files are in the cache.")
    if problem:
        return Finding(kind, FALSE, problem.reason, problem.message)
    return Finding(kind, FALSE, Reason.DOWNLOADING, "A Job brings the model's files into the cache.")


def _scheduled(picture: Picture) -> Finding:
    kind = ConditionType.SCHEDULED
    frozen = picture.decision.in_force
    mine = [pod for pod in picture.live.replicas if frozen and revision_of(pod) == frozen.name]
    if not mine:
        return Finding(kind, UNKNOWN, Reason.WAITING, "There are no replicas yet.")
    problem = picture.replica_problem()
    if problem and problem.reason == Reason.ADDING_NODE:
        return Finding(kind, UNKNOWN, problem.reason, problem.message)
    if problem and problem.reason in (Reason.UNSCHEDULABLE, Reason.NO_SUCH_GPU, Reason.WAITING):
        return Finding(kind, FALSE, problem.reason, problem.message)
    if all(pod["spec"].get("nodeName") for pod in mine):
        return Finding(kind, TRUE, Reason.SCHEDULED, "Every replica has a node.")
    return Finding(kind, UNKNOWN, Reason.WAITING, "The scheduler looks for a node.")


def _progressing(picture: Picture) -> Finding:
    kind, problem = ConditionType.PROGRESSING, obstacle(picture)
    if problem:
        return Finding(kind, TRUE if problem.reason in _WAITS else FALSE, problem.reason, problem.message)
    if _settled(picture):
        return Finding(kind, FALSE, Reason.READY, "All replicas are as the spec says.")
    if picture.decision.replace_in_place:
        said = "There is no room for a replica more: old replicas end before new ones start, so requests may wait."
        return Finding(kind, TRUE, Reason.REPLACING_IN_PLACE, said)
    if picture.decision.target is None:
        return Finding(kind, TRUE, Reason.RESOLVING, "The model's headers are read.")
    if not picture.decision.cached:
        return Finding(kind, TRUE, Reason.DOWNLOADING, "The model is brought into the cache.")
    if picture.ready:
        return Finding(kind, TRUE, Reason.ROLLING_OUT, "Replicas are being made or replaced.")
    return Finding(kind, TRUE, Reason.STARTING, "The first replica starts.")


def _available(picture: Picture) -> Finding:
    kind = ConditionType.AVAILABLE
    if picture.ready:
        return Finding(kind, TRUE, Reason.READY, f"{picture.ready} of {picture.desired} replicas are ready.")
    return Finding(kind, FALSE, *_why_not(picture))


def _ready(picture: Picture) -> Finding:
    kind = ConditionType.READY
    if picture.ready and picture.desired:
        said = f"{picture.ready} of {picture.desired} replicas serve requests"
        if (problem := obstacle(picture)) is None:
            return Finding(kind, TRUE, Reason.READY, f"{said}.")
        if picture.serves_target() or problem.reason in _WAITS:
            return Finding(kind, TRUE, problem.reason, f"{said}. {problem.message}")
        return _serving_earlier(said, problem)
    return Finding(kind, FALSE, *_why_not(picture))


def _serving_earlier(who: str, problem: Problem) -> Finding:
    """Requests are answered, and not as the spec says: both are told in one line."""
    said = f"{who} as an earlier spec says, because this one can't be carried out ({problem.reason}): {problem.message}"
    return Finding(ConditionType.READY, TRUE, Reason.SERVING_EARLIER, said)


def _count(replicas: int) -> str:
    return "1 replica is" if replicas == 1 else f"{replicas} replicas are"


def _why_not(picture: Picture) -> tuple[str, str]:
    if problem := obstacle(picture):
        return problem.reason, problem.message
    if picture.desired == 0:
        return Reason.STOPPED, "spec.replicas is 0."
    found = _progressing(picture)
    return found.reason, found.message


def obstacle(picture: Picture) -> Problem | None:
    """What keeps the spec from being carried out, the earliest step first."""
    decision = picture.decision
    waiting = decision.target is None or not decision.cached
    candidates: Iterator[Problem | None] = iter(
        (
            picture.refused(),
            decision.preparation.problem if waiting else None,
            decision.refusal,
            picture.replica_problem() if picture.desired else None,
        )
    )
    return next((problem for problem in candidates if problem), None)


def _settled(picture: Picture) -> bool:
    """Whether as many replicas of the target as wanted are ready, and no others are there."""
    decision, live = picture.decision, picture.live
    if decision.target is None or decision.in_force != decision.target or live.deployment is None:
        return False
    status, metadata = live.deployment.get("status", {}), live.deployment["metadata"]
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return False
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
    return counts == [picture.desired] * 3


def _conflict(refused: Sequence[Refused]) -> Finding:
    kind = ConditionType.NAME_CONFLICT
    foreign = [found for found in refused if found.reason == NAME_CONFLICT]
    if not foreign:
        return Finding(kind, FALSE, Reason.NO_CONFLICT, "No foreign object has the name of one of the service's own.")
    return Finding(kind, TRUE, Reason.NAME_CONFLICT, _write_problem(foreign[0]).message)


def _write_problem(refused: Refused) -> Problem:
    what = f"{refused.kind} {refused.name}"
    if refused.reason == NAME_CONFLICT:
        return Problem(
            Reason.NAME_CONFLICT,
            f"There is a {what} already that does not belong to this service; it is left alone. Rename the service or "
            "remove that object.",
        )
    return Problem(
        Reason.WRITE_REFUSED,
        f"The API server refuses the {what} ({refused.reason}): {refused.message.rstrip('.')}. "
        f"{way_out(refused.message)}",
    )


def plain(finding: Finding, generation: int, since: str) -> Json:
    """The condition as the API spells it."""
    return {
        "type": str(finding.type),
        "status": finding.status,
        "reason": str(finding.reason),
        "message": finding.message[:32768],
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }
