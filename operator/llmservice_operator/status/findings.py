"""What is known of a service in a cluster at this moment, as findings: one per condition type.

Served means that requests to `status.url` are answered: a replica is ready, and the Service is there, is the
LLMService's own and leads to it. Of the other children, none that is refused stops what runs. Without its
NetworkPolicy a replica is reached by more than it should be, without its PodDisruptionBudget drains of nodes take
more of them at once, without its PodMonitor nothing is measured; without ServiceAccount, claim, Job, revision or
Deployment no further replica comes. All of that is told beside what is served.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_api.adapters_found import adapters_ready
from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import (
    FALSE,
    TRUE,
    UNKNOWN,
    Finding,
    as_asked,
    available,
    idle,
    not_served,
    resolved,
    serving,
    serving_earlier,
    valid,
)
from llmservice_operator.children.service import leads_to_replicas
from llmservice_operator.decide.decision import Decision
from llmservice_operator.facts.live import Live, revision_of
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Json, Observed
from llmservice_operator.status.picture import Picture, ready_replicas
from llmservice_operator.status.refused import conflict, unreached
from llmservice_operator.status.scaling import scaling_findings
from llmservice_runtime.contract.failure import FailureClass

_WAITS = (Reason.WAITING, Reason.ADDING_NODE)
"""Obstacles that pass by themselves."""
READING = "A Job reads the model's headers."


def findings(picture: Picture) -> list[Finding]:
    """Every condition."""
    adapters = adapters_ready(picture.adapters, picture.decision.new_replicas, picture.desired)
    return [
        valid(picture.ignored),
        _resolved(picture),
        _planned(picture),
        _cached(picture),
        _scheduled(picture),
        _progressing(picture),
        conflict(picture.observed.refused),
        *scaling_findings(picture.decision.service.spec.scaling, picture.observed),
        *((adapters,) if adapters else ()),
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
        return [*found, conflict(observed.refused), *not_served(problem.reason, problem.message)]
    if not leads_to_replicas(owner, live.service):
        why = unreached(observed.refused)
        return [*found, conflict(observed.refused), *not_served(why.reason, why.message)]
    wanted = live.deployment["spec"].get("replicas", ready)
    earlier = serving_earlier(ready, wanted, problem.reason, problem.message)
    return [*found, conflict(observed.refused), available(ready, wanted), earlier]


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
        what = "adapters' headers" if decision.preparation.prepared else "model's facts"
        return Finding(kind, UNKNOWN, Reason.WAITING, f"The {what} are not known yet.")
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
        scaling = decision.service.spec.scaling
        wakes = scaling is not None and scaling.managed and not scaling.min_replicas
        woken = ", and whoever wakes the service waits for that" if wakes else ""
        said = (
            f"Every replica downloads the model when it starts{woken}. A cache on a PersistentVolumeClaim does it once."
        )
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
    kind, problem = ConditionType.PROGRESSING, picture.obstacle()
    if problem:
        return Finding(kind, TRUE if problem.reason in _WAITS else FALSE, problem.reason, problem.message)
    if picture.settled():
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
    if waits := picture.idle():
        return idle(waits)
    if not served:
        return not_served(*_why_not(picture))
    there, problem = available(served, wanted), picture.obstacle()
    if not wanted:
        return [there, Finding(ConditionType.READY, FALSE, *_why_not(picture))]
    if problem is None:
        return [there, serving(served, wanted)]
    if picture.serves_target() or problem.reason in _WAITS:
        return [there, serving(served, wanted, (problem.reason, problem.message))]
    return [there, serving_earlier(served, wanted, problem.reason, problem.message)]


def _why_not(picture: Picture) -> tuple[str, str]:
    if picture.ready and not picture.served and picture.desired:
        why = unreached(picture.observed.refused)
        return why.reason, why.message
    if problem := picture.obstacle():
        return problem.reason, problem.message
    if picture.desired == 0 and picture.decision.target and picture.decision.cached:
        return Reason.STOPPED, "spec.replicas is 0."
    found = _progressing(picture)
    return found.reason, found.message
