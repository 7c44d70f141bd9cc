"""What was decided for a service and what became of it: what findings are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from llmservice_api.adapters_found import AskedFor, adapter_entries
from llmservice_api.conditions import Reason
from llmservice_operator.children.service import leads_to_replicas
from llmservice_operator.decide.adapters import Wanted
from llmservice_operator.decide.decision import Decision
from llmservice_operator.diagnosis.case import Case
from llmservice_operator.diagnosis.held_up import held_up, kept_from_requests
from llmservice_operator.diagnosis.pods import ended_by_node, pod_problem
from llmservice_operator.diagnosis.refusal import way_out, without_pod
from llmservice_operator.facts.live import Live, condition, holds, revision_of
from llmservice_operator.facts.owner import Json, Owner
from llmservice_operator.facts.pod_fields import CONTAINER
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import CONTESTED, NAME_CONFLICT, Observed
from llmservice_operator.status.refused import write_problem
from llmservice_operator.status.scaling import waits_at_zero


@dataclass(frozen=True)
class Picture:
    """What was decided, and what the replicas are doing."""

    owner: Owner
    decision: Decision
    observed: Observed
    live: Live
    now: datetime
    ignored: tuple[str, ...] = ()
    """Fields of the spec that this release does not know."""

    @cached_property
    def adapters(self) -> list[Json]:
        """status.adapters."""
        ready = [pod["metadata"].get("uid", "") for pod in self.live.replicas if holds(pod, "Ready")]
        told = [self.observed.adapters.get(uid, ()) for uid in ready]
        return adapter_entries([self._asked_for(one) for one in self.decision.adapters], told)

    def _asked_for(self, one: Wanted) -> AskedFor:
        adapter, read, problem = one.found.adapter, one.found.read, one.problem
        reason, message = (str(problem.reason), problem.message) if problem else ("", "")
        trial = self.decision.trials.get(adapter.name)
        first = None if trial is None else [said for said in (trial.said,) if said is not None]
        return AskedFor(adapter.name, adapter.uri, read.revision if read else "", reason, message, one.waits, first)

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

    def idle(self) -> str:
        """Why requests wait although no replica is wanted; empty when some are, or none can come."""
        decision = self.decision
        if self.desired or decision.target is None or not decision.cached or self.obstacle():
            return ""
        return waits_at_zero(decision.service.spec.scaling)

    def serves_target(self) -> bool:
        """Whether a replica of the plan for this very spec is ready."""
        target = self.decision.target
        return any(target and revision_of(pod) == target.name and holds(pod, "Ready") for pod in self.live.replicas)

    def refused(self) -> Problem | None:
        """A write that the API server refused, foreign names first: nothing else can be done about these."""
        refused = [found for found in self.observed.refused if found.reason != CONTESTED]
        refused.sort(key=lambda found: found.reason != NAME_CONFLICT)
        return write_problem(refused[0]) if refused else None

    def contested(self) -> Problem | None:
        """An object that somebody takes from us again and again: told when nothing else is wrong."""
        found = next((found for found in self.observed.refused if found.reason == CONTESTED), None)
        return write_problem(found) if found else None

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
        if failed is not None and failed["status"] == "True":
            said = " ".join(failed.get("message", "").split()).rstrip(".")
            return Problem(Reason.WRITE_REFUSED, f"Replicas can't be created: {without_pod(said)}. {way_out(said)}")
        return None

    def obstacle(self) -> Problem | None:
        """What keeps the spec from being carried out, the earliest step first."""
        decision = self.decision
        waiting = decision.target is None or not decision.cached
        mending = decision.again and decision.target is None  # what replicas lack is what is being read
        candidates: Iterator[Problem | None] = iter(
            (
                self.refused(),
                decision.preparation.problem if waiting else None,
                decision.refusal,
                self.replica_problem() if self.desired and not mending else None,
                self.contested(),
            )
        )
        return next((problem for problem in candidates if problem), None)

    def settled(self) -> bool:
        """Whether as many replicas of the target as wanted are ready, and no others are there."""
        decision, live = self.decision, self.live
        if decision.target is None or decision.in_force != decision.target or live.deployment is None:
            return False
        status, metadata = live.deployment.get("status", {}), live.deployment["metadata"]
        if status.get("observedGeneration", 0) < metadata.get("generation", 0):
            return False
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
        return counts == [self.desired] * 3


def ready_replicas(live: Live) -> int:
    """As the Deployment counts them."""
    found: int = (live.deployment or {}).get("status", {}).get("readyReplicas", 0)
    return found


def _found(case: Case) -> Problem | None:
    return pod_problem(case) or held_up(case, CONTAINER) or kept_from_requests(case, CONTAINER)
