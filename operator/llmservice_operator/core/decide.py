"""What a valid service needs next: its model's facts, a plan, a cache, replicas. Steps in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.v1alpha1 import LLMService
from llmservice_operator.children.deployment import deployment
from llmservice_operator.children.disruption_budget import disruption_budget
from llmservice_operator.children.model_access import ModelAccess, model_access
from llmservice_operator.children.network_policy import network_policy
from llmservice_operator.children.owner import Json, Owner
from llmservice_operator.children.prepare_job import job_name, prepare_job
from llmservice_operator.children.revision import Frozen, controller_revision, freeze, revision_name, thaw
from llmservice_operator.children.service import service as child_service
from llmservice_operator.children.service_account import account_name, service_account
from llmservice_operator.core.config import OperatorConfig
from llmservice_operator.core.live import Live
from llmservice_operator.core.placing import place_service
from llmservice_operator.core.preparation import Preparation, preparation
from llmservice_operator.core.problem import Problem
from llmservice_operator.core.rollout import decide_in, in_place
from llmservice_operator.core.values import Delete, Observed
from llmservice_operator.planning.explain import refusal_remedy
from llmservice_operator.planning.plan import Refusal

KEPT_REVISIONS = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """`target` is the plan for the spec as it is; `in_force` the one that replicas run, which may be an older one."""

    service: LLMService
    access: ModelAccess
    preparation: Preparation
    target: Frozen | None
    refusal: Problem | None
    cached: bool
    in_force: Frozen | None
    replace_in_place: bool
    apply: tuple[Json, ...]
    delete: tuple[Delete, ...]
    requeue_after: float | None


def decide(
    service: LLMService, owner: Owner, live: Live, observed: Observed, config: OperatorConfig, now: datetime
) -> Decision:
    """Everything that follows from what was observed, apart from words."""
    access, job = model_access(service.spec), job_name(owner, service.spec)
    prepared = preparation(live, job, now)
    target, refusal = _target(service, owner, live, prepared, observed, config)
    cached = not access.shared or prepared.done
    in_force = target if target and cached else live.running()
    stay = in_force is not None and in_place(live, in_force.name, now)
    waits = [prepared.retry_in, decide_in(live, in_force.name, now) if in_force else None]
    return Decision(
        service=service,
        access=access,
        preparation=prepared,
        target=target,
        refusal=refusal,
        cached=cached,
        in_force=in_force,
        replace_in_place=stay,
        apply=tuple(_children(service, owner, live, target, in_force, stay, prepared, config)),
        delete=tuple(_stale(live, job, prepared, target, in_force)),
        requeue_after=min((wait for wait in waits if wait is not None), default=None),
    )


def _target(
    service: LLMService, owner: Owner, live: Live, made: Preparation, observed: Observed, config: OperatorConfig
) -> tuple[Frozen | None, Problem | None]:
    """The plan for this spec: the frozen one where there is one, else a new one, else why there is none."""
    name = revision_name(owner, service.spec)
    if kept := live.revisions.get(name):
        return thaw(kept), None
    if made.prepared is None:
        return None, None
    facts, revision = made.prepared.facts, made.prepared.revision
    placed = place_service(service.spec, facts, revision, observed.nodes, config)
    if isinstance(placed, Refusal):
        return None, Problem(placed.failure.value, f"{placed.reason} {refusal_remedy(placed)}".strip())
    number = 1 + max((kept["revision"] for kept in live.revisions.values()), default=0)
    return freeze(owner, service, placed, made.prepared, config, number), None


def _children(
    service: LLMService,
    owner: Owner,
    live: Live,
    target: Frozen | None,
    in_force: Frozen | None,
    stay: bool,
    made: Preparation,
    config: OperatorConfig,
) -> Iterator[Json]:
    """In the order in which they need each other."""
    if account := service_account(owner, service.spec):
        yield account
    yield child_service(owner)
    yield network_policy(owner, config)
    yield disruption_budget(owner)
    job = prepare_job(owner, service.spec, config, account_name(owner, service.spec))
    needed = target is None or (model_access(service.spec).shared and not made.done)
    if needed and job["metadata"]["name"] not in live.jobs:  # a Job can't be changed
        yield job
    if target and target.name not in live.revisions:  # neither can a revision
        yield controller_revision(owner, target)
    if in_force:
        yield deployment(owner, in_force, service.spec.replicas, stay)


def _stale(live: Live, job: str, made: Preparation, target: Frozen | None, in_force: Frozen | None) -> Iterator[Delete]:
    """Jobs of other models, Jobs that must be made anew, and all but the newest revisions."""
    again = (made.lost and target is None) or made.retry_in == 0.0
    for name, found in live.jobs.items():
        if (name != job or again) and "deletionTimestamp" not in found["metadata"]:
            yield Delete("batch/v1", "Job", name, found["metadata"]["uid"])
    needed = {frozen.name for frozen in (target, in_force, live.running()) if frozen}
    by_age = sorted(live.revisions, key=lambda name: live.revisions[name]["revision"], reverse=True)
    for name in [name for name in by_age if name not in needed][KEPT_REVISIONS - 1 :]:
        yield Delete("apps/v1", "ControllerRevision", name, live.revisions[name]["metadata"]["uid"])
