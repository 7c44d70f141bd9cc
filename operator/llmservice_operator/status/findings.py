"""What is known of a service in a cluster at this moment, as findings: one per condition type.

Served means that requests to `status.url` are answered: a replica is ready, and the Service is there, is the
LLMService's own and leads to it. Of the other children, none that is refused stops what runs. Without its
NetworkPolicy a replica is reached by more than it should be, without its PodDisruptionBudget drains of nodes take
more of them at once, without its PodMonitor nothing is measured; without ServiceAccount, claim, Job, revision or
Deployment no further replica comes. All of that is told beside what is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import (
    FALSE,
    TRUE,
    UNKNOWN,
    Finding,
    as_asked,
    available,
    not_served,
    resolved,
    serving,
    serving_earlier,
    valid,
)
from llmservice_operator.children.service import leads_to_replicas
from llmservice_operator.decide.decision import Decision
from llmservice_operator.diagnosis.case import Case
from llmservice_operator.diagnosis.held_up import held_up
from llmservice_operator.diagnosis.pods import ended_by_node, pod_problem
from llmservice_operator.diagnosis.refusal import way_out
from llmservice_operator.facts.live import Live, condition, holds, revision_of
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.pod_fields import CONTAINER
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import CONTESTED, NAME_CONFLICT, Json, Observed, Refused
from llmservice_runtime.contract.failure import FailureClass

_WAITS = (Reason.WAITING, Reason.ADDING_NODE)
"""Obstacles that pass by themselves."""
SERVICE, CLAIM = "Service", "PersistentVolumeClaim"
MADE_ANEW = "Delete the claim, if it holds nothing that is needed: it is made anew as the spec says."
READING = "A Job reads the model's headers."


@dataclass(frozen=True, slots=True)
class Picture:
    """What was decided, and what the replicas are doing."""

    owner: Owner
    decision: Decision
    observed: Observed
    live: Live
    now: datetime
    ignored: tuple[str, ...] = ()
    """Fields of the spec that this release does not know."""

    @property
    def desired(self) -> int:
        """Replicas that are wanted."""
        return self.decision.service.spec.replicas

    @property
    def ready(self) -> int:
        """Replicas that are ready, of any revision."""
        return ready_replicas(self.live)

    @property
    def served(self) -> int:
        """Replicas that requests reach."""
        return self.ready if leads_to_replicas(self.owner, self.live.service) else 0

    def serves_target(self) -> bool:
        """Whether a replica of the plan for this very spec is ready."""
        target = self.decision.target
        return any(target and revision_of(pod) == target.name and holds(pod, "Ready") for pod in self.live.replicas)

    def refused(self) -> Problem | None:
        """A write that the API server refused, foreign names first: nothing else can be done about these."""
        refused = [found for found in self.observed.refused if found.reason != CONTESTED]
        refused.sort(key=lambda found: found.reason != NAME_CONFLICT)
        return _write_problem(refused[0]) if refused else None

    def contested(self) -> Problem | None:
        """An object that somebody takes from us again and again: told when nothing else is wrong."""
        found = next((found for found in self.observed.refused if found.reason == CONTESTED), None)
        return _write_problem(found) if found else None

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
                and (problem := _found(Case(pod, self.now, frozen.resource, exists, self.live.events_of(pod))))
            ):
                return problem
        failed = condition(self.live.deployment, "ReplicaFailure")
        if failed is not None and failed["status"] == TRUE:
            said = failed.get("message", "").rstrip(".")
            return Problem(Reason.WRITE_REFUSED, f"Replicas can't be created: {said}. {way_out(said)}")
        return None


def ready_replicas(live: Live) -> int:
    """As the Deployment counts them."""
    found: int = (live.deployment or {}).get("status", {}).get("readyReplicas", 0)
    return found


def _found(case: Case) -> Problem | None:
    return pod_problem(case) or held_up(case, CONTAINER)


def findings(picture: Picture) -> list[Finding]:
    """Every condition."""
    return [
        valid(picture.ignored),
        _resolved(picture),
        _planned(picture),
        _cached(picture),
        _scheduled(picture),
        _progressing(picture),
        _conflict(picture.observed.refused),
        *_served(picture),
    ]


def invalid(problem: Problem, observed: Observed, owner: Owner, live: Live) -> list[Finding]:
    """Of a spec that can't be acted upon: what runs is left as it is."""
    found = [
        Finding(kind, FALSE, problem.reason, problem.message)
        for kind in (ConditionType.SPEC_VALID, ConditionType.PROGRESSING)
    ]
    ready = ready_replicas(live)
    if not ready or live.deployment is None:
        return [*found, _conflict(observed.refused), *not_served(problem.reason, problem.message)]
    if not leads_to_replicas(owner, live.service):
        unreached = _unreached(observed.refused)
        return [*found, _conflict(observed.refused), *not_served(unreached.reason, unreached.message)]
    wanted = live.deployment["spec"].get("replicas", ready)
    earlier = serving_earlier(ready, wanted, problem.reason, problem.message)
    return [*found, _conflict(observed.refused), available(ready, wanted), earlier]


def _resolved(picture: Picture) -> Finding:
    decision, made = picture.decision, picture.decision.preparation
    kind = ConditionType.MODEL_RESOLVED
    if decision.target or made.prepared:
        revision = decision.target.resolved_revision if decision.target else made.prepared and made.prepared.revision
        return resolved(revision or "", f"{_why_again(decision)} {made.beside}".strip())
    if made.problem:
        return Finding(kind, FALSE, made.problem.reason, made.problem.message)
    said = f"A Job reads the model's headers anew, since {decision.again}." if decision.again else READING
    return Finding(kind, UNKNOWN, Reason.RESOLVING, said)


def _why_again(decision: Decision) -> str:
    """Why the model was read more than once, or is to be."""
    if not decision.again:
        again = decision.target.again if decision.target else ""
        return f"It was read anew, since {again}." if again else ""
    if problem := decision.preparation.problem:
        return f"It is to be read anew, since {decision.again}. {problem.message}"
    return f"It was read anew, since {decision.again}, and is the same."


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
    if problem and problem.reason == FailureClass.VOLUME_FAILED and not _all_placed(mine):
        return Finding(kind, FALSE, problem.reason, problem.message)
    if problem and problem.reason == Reason.ADDING_NODE:
        return Finding(kind, UNKNOWN, problem.reason, problem.message)
    if problem and problem.reason in (Reason.UNSCHEDULABLE, Reason.NO_SUCH_GPU, Reason.WAITING):
        return Finding(kind, FALSE, problem.reason, problem.message)
    if _all_placed(mine):
        return Finding(kind, TRUE, Reason.SCHEDULED, "Every replica has a node.")
    return Finding(kind, UNKNOWN, Reason.WAITING, "The scheduler looks for a node.")


def _all_placed(pods: Sequence[Json]) -> bool:
    return all(pod["spec"].get("nodeName") for pod in pods)


def _progressing(picture: Picture) -> Finding:
    kind, problem = ConditionType.PROGRESSING, obstacle(picture)
    if problem:
        return Finding(kind, TRUE if problem.reason in _WAITS else FALSE, problem.reason, problem.message)
    if _settled(picture):
        return as_asked()
    if picture.decision.replace_in_place:
        said = "There is no room for a replica more: old replicas end before new ones start, so requests may wait."
        return Finding(kind, TRUE, Reason.REPLACING_IN_PLACE, said)
    if picture.decision.target is None:
        return Finding(kind, TRUE, Reason.RESOLVING, _resolved(picture).message)
    if not picture.decision.cached:
        return Finding(kind, TRUE, Reason.DOWNLOADING, "The model is brought into the cache.")
    if picture.ready:
        return Finding(kind, TRUE, Reason.ROLLING_OUT, "Replicas are being made or replaced.")
    return Finding(kind, TRUE, Reason.STARTING, "The first replica starts.")


def _served(picture: Picture) -> list[Finding]:
    """Available and Ready."""
    served, wanted = picture.served, picture.desired
    if not served:
        return not_served(*_why_not(picture))
    there, problem = available(served, wanted), obstacle(picture)
    if not wanted:
        return [there, Finding(ConditionType.READY, FALSE, *_why_not(picture))]
    if problem is None:
        return [there, serving(served, wanted)]
    if picture.serves_target() or problem.reason in _WAITS:
        return [there, serving(served, wanted, (problem.reason, problem.message))]
    return [there, serving_earlier(served, wanted, problem.reason, problem.message)]


def _unreached(refused: Sequence[Refused]) -> Problem:
    """Replicas are ready, and no request comes to them."""
    mine = [found for found in refused if found.kind == SERVICE]
    return _write_problem(mine[0]) if mine else Problem(Reason.STARTING, "The Service that leads to it is being made.")


def _why_not(picture: Picture) -> tuple[str, str]:
    if picture.ready and not picture.served and picture.desired:
        unreached = _unreached(picture.observed.refused)
        return unreached.reason, unreached.message
    if problem := obstacle(picture):
        return problem.reason, problem.message
    if picture.desired == 0 and picture.decision.target and picture.decision.cached:
        return Reason.STOPPED, "spec.replicas is 0."
    found = _progressing(picture)
    return found.reason, found.message


def obstacle(picture: Picture) -> Problem | None:
    """What keeps the spec from being carried out, the earliest step first."""
    decision = picture.decision
    waiting = decision.target is None or not decision.cached
    mending = decision.again and decision.target is None  # what replicas lack is what is being read
    candidates: Iterator[Problem | None] = iter(
        (
            picture.refused(),
            decision.preparation.problem if waiting else None,
            decision.refusal,
            picture.replica_problem() if picture.desired and not mending else None,
            picture.contested(),
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
    if refused.reason == CONTESTED:
        return Problem(Reason.CONTESTED, f"{what}: {refused.message}")
    out = MADE_ANEW if refused.kind == CLAIM and "immutable" in refused.message else way_out(refused.message)
    said = f"The API server refuses the {what} ({refused.reason}): {refused.message.rstrip('.')}. {out}"
    return Problem(Reason.WRITE_REFUSED, said)
