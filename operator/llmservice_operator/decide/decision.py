"""What a valid service needs next: its model's facts, a plan, a cache, replicas. Steps in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.v1alpha1 import LLMService
from llmservice_operator.children.cache_claim import cache_claim
from llmservice_operator.children.deployment import deployment
from llmservice_operator.children.disruption_budget import disruption_budget
from llmservice_operator.children.fetch_job import fetch_job, fetch_name
from llmservice_operator.children.model_access import ModelAccess, model_access
from llmservice_operator.children.network_policy import network_policy
from llmservice_operator.children.pod_monitor import pod_monitor
from llmservice_operator.children.prepare_job import prepare_job
from llmservice_operator.children.reading import reading
from llmservice_operator.children.revision import brought_back, controller_revision, freeze, taken_up
from llmservice_operator.children.service import service as child_service
from llmservice_operator.children.service_account import account_name, service_account
from llmservice_operator.decide.preparation import Preparation, preparation
from llmservice_operator.decide.resolution import Resolution, resolution
from llmservice_operator.decide.rollout import decide_in, in_place
from llmservice_operator.facts.access import reached
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live
from llmservice_operator.facts.owner import Json, Owner
from llmservice_operator.facts.placing import place_service
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Delete, Observed
from llmservice_planning.explain import refusal_remedy
from llmservice_planning.plan import Refusal

KEPT_REVISIONS = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """`target` is the plan for the spec as it is; `in_force` the one that replicas run, which may be an older one.

    `again` says why the model's source is read another time (a clause); empty when it is not.
    """

    service: LLMService
    access: ModelAccess
    preparation: Preparation
    again: str
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
    access = model_access(owner, service.spec)
    asked = resolution(owner, service.spec, access, live, config, now)
    target, refusal = _target(service, owner, live, asked, observed, config)
    wanted = target or asked.kept
    filling = fetch_name(owner, service.spec, wanted) if wanted and access.shared else ""
    fetched = preparation(live, filling, now)
    if target is None:  # what it failed with is being mended: it is kept to know that, and not tried again
        fetched = dataclasses.replace(fetched, problem=None, done=False, retry_in=None)
    running = live.running()
    if live.deployment is None and running and target and running.name == target.name:
        running = None  # it is made anew as it was made: when its files are there
    runs = running is not None and target is not None and running.name == target.name
    cached = not access.shared or fetched.done or runs  # replicas get no plan before its files are there
    in_force = target if target and cached else running
    stay = in_force is not None and in_place(live, in_force.name, now)
    jobs = {asked.before: Preparation(), asked.job: asked.made, filling: fetched}
    kept = {asked.job: asked.known, filling: runs}
    ends = [made.end_in for name, made in jobs.items() if kept.get(name)]
    waits = [asked.made.retry_in, fetched.retry_in, *ends, decide_in(live, in_force.name, now) if in_force else None]
    return Decision(
        service=service,
        access=access,
        preparation=dataclasses.replace(asked.made, problem=asked.made.problem or fetched.problem),
        again=asked.again,
        target=target,
        refusal=refusal,
        cached=cached,
        in_force=in_force,
        replace_in_place=stay,
        apply=tuple(_children(service, owner, live, asked, target, in_force, stay, cached, config, observed.services)),
        delete=(*_stale(live, jobs, kept, target, in_force), *_stale_readings(live, asked, target)),
        requeue_after=min((wait for wait in waits if wait is not None), default=None),
    )


def _target(
    service: LLMService, owner: Owner, live: Live, asked: Resolution, observed: Observed, config: OperatorConfig
) -> tuple[Frozen | None, Problem | None]:
    """The plan for this spec: the frozen one where there is one, else a new one, else why there is none."""
    number = 1 + max((kept["revision"] for kept in live.revisions.values()), default=0)
    if asked.settled:
        running = live.running()
        runs = running is not None and running.name == asked.settled.name
        return asked.settled if runs else brought_back(owner, service.spec, asked.settled, number), None
    prepared = asked.made.prepared
    if prepared is None:
        return None, None
    facts, revision = prepared.facts, prepared.revision
    placed = place_service(service.spec, facts, revision, observed.nodes, config)
    if isinstance(placed, Refusal):
        return None, Problem(placed.failure.value, f"{placed.reason} {refusal_remedy(placed)}".strip())
    return freeze(owner, service, placed, prepared, config, number, live.revisions, asked.again), None


def _children(
    service: LLMService,
    owner: Owner,
    live: Live,
    asked: Resolution,
    target: Frozen | None,
    in_force: Frozen | None,
    stay: bool,
    cached: bool,
    config: OperatorConfig,
    services: Sequence[str],
) -> Iterator[Json]:
    """In the order in which they need each other."""
    if made := service_account(owner, service.spec):
        yield made
    yield child_service(owner)
    yield network_policy(owner, reached(service.spec.endpoint.access, config), config)
    yield disruption_budget(owner)
    if config.monitoring is not None and config.monitoring.covers(owner.namespace):
        yield pod_monitor(owner, config.monitoring)
    if claim := cache_claim(owner, service.spec):
        yield claim
    account = account_name(owner, service.spec)
    if not asked.known and (target is None or asked.again) and asked.job not in live.jobs:  # it can't be changed
        yield prepare_job(owner, service.spec, config, account, asked.job, asked.revision)
    if _only_told(live, asked, target):
        assert asked.made.prepared is not None
        yield reading(owner, asked.job, asked.made.prepared)
    if target and target.name not in live.revisions:  # neither can a revision
        yield controller_revision(owner, target)
    elif target and (running := live.running()) and running.number > target.number:
        yield taken_up(owner, live.revisions, target.name)
    if target and not cached and fetch_name(owner, service.spec, target) not in live.jobs:
        yield fetch_job(owner, service.spec, target, config, account, live.claim_bound(), live.running(), services)
    if in_force:
        yield deployment(owner, in_force, service.spec.replicas, stay)


def _only_told(live: Live, asked: Resolution, target: Frozen | None) -> bool:
    """Whether only a pod that goes on has what was read: no plan is made of it, so it is kept by itself."""
    made = asked.made
    planned = target is not None and target.name not in live.revisions
    return made.end_in == 0.0 and made.prepared is not None and not asked.known and not planned


def _stale(
    live: Live,
    jobs: Mapping[str, Preparation],
    kept: Mapping[str, bool],
    target: Frozen | None,
    in_force: Frozen | None,
) -> Iterator[Delete]:
    """Jobs of other models, those to be made anew, those that go on after their work, and all but the newest revisions.

    `kept`: what came of the Job is known without it.
    """
    for name, found in live.jobs.items():
        made = jobs.get(name)
        again = made is None or (made.lost and target is None) or made.retry_in == 0.0
        ended = made is not None and made.end_in == 0.0 and kept.get(name, False)
        if (again or ended) and "deletionTimestamp" not in found["metadata"]:
            yield Delete("batch/v1", "Job", name, found["metadata"]["uid"])
    needed = {frozen.name for frozen in (target, in_force, live.running()) if frozen}
    by_age = sorted(live.revisions, key=lambda name: live.revisions[name]["revision"], reverse=True)
    for name in [name for name in by_age if name not in needed][KEPT_REVISIONS - 1 :]:
        yield Delete("apps/v1", "ControllerRevision", name, live.revisions[name]["metadata"]["uid"])


def _stale_readings(live: Live, asked: Resolution, target: Frozen | None) -> Iterator[Delete]:
    """What was read of other models, what a plan keeps by now, and what is to be read anew."""
    planned = target is not None and target.name in live.revisions and not asked.again
    for name, found in live.readings.items():
        ends = planned or not asked.known or asked.made.retry_in == 0.0
        if name != asked.before and (name != asked.job or ends):
            yield Delete("apps/v1", "ControllerRevision", name, found["metadata"]["uid"])
