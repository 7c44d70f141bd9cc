"""What a valid service needs next: its model's facts, a plan, a cache, replicas. Steps in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.labels import ADAPTERS_SEEN
from llmservice_api.v1alpha1 import LLMService
from llmservice_operator.children.adapter_job import adapter_job
from llmservice_operator.children.adapter_map import adapter_map, file_digest
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
from llmservice_operator.decide import adapters as lora
from llmservice_operator.decide.preparation import Preparation, preparation
from llmservice_operator.decide.resolution import Resolution, resolution
from llmservice_operator.decide.rollout import decide_in, in_place
from llmservice_operator.decide.trials import Trial, judged_in, trials_of
from llmservice_operator.facts.access import reached
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live, condition
from llmservice_operator.facts.owner import Json, Owner
from llmservice_operator.facts.placing import Placed, place_service
from llmservice_operator.facts.pod_fields import ADAPTERS
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Delete, Observed, Poke
from llmservice_planning.adapters import room_wanted
from llmservice_planning.explain import refusal_remedy
from llmservice_planning.plan import Refusal
from llmservice_runtime.contract.failure import FailureClass

KEPT_REVISIONS = 3
ANNOUNCED_SECONDS = 1.0
"""From when status says that replicas are replaced for the sake of adapters until they are."""


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
    adapters: tuple[lora.Wanted, ...] = ()
    trials: Mapping[str, Trial] = field(default_factory=dict)
    """By adapters' names: the pod that loads it before the others are told to."""
    new_replicas: str = ""
    """Why replicas are replaced for the sake of adapters, a sentence; empty when they are not."""
    pokes: tuple[Poke, ...] = ()


def decide(
    service: LLMService, owner: Owner, live: Live, observed: Observed, config: OperatorConfig, now: datetime
) -> Decision:
    """Everything that follows from what was observed, apart from words."""
    access = model_access(owner, service.spec)
    asked = resolution(owner, service.spec, access, live, config, now)
    found = lora.find(owner, service.spec, live, now)
    target, refusal, room = _target(service, owner, live, asked, observed, config, found)
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
    adapters = lora.wanted(in_force, found, room.problem)
    reading = {one.job: one.made for one in found if not one.kept}
    jobs = {asked.before: Preparation(), asked.job: asked.made, filling: fetched, **reading}
    kept = {asked.job: asked.known, filling: runs}
    ends = [made.end_in for name, made in jobs.items() if kept.get(name)]
    waits = [asked.made.retry_in, fetched.retry_in, *ends, decide_in(live, in_force.name, now) if in_force else None]
    waits += [*(made.retry_in for made in reading.values()), ANNOUNCED_SECONDS if room.announced else None]
    keeps = lora.keeps_map(found, in_force, live.running())
    files = lora.files(adapters)
    trials = trials_of(files, observed.service, live, observed.adapters, now)
    waits.append(judged_in(trials, live, now))
    tried = {name: trial.pod for name, trial in trials.items()}
    since = {name: trial.since for name, trial in trials.items()}
    read = {one.key: one.read for one in found if one.read}
    mapped = [adapter_map(owner, files, read, tried, since)] if keeps else []
    children = _children(service, owner, live, asked, target, in_force, stay, cached, config, observed.services, found)
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
        apply=(*mapped, *children),
        delete=(
            *_stale(live, jobs, kept, target, in_force),
            *_stale_readings(live, asked, target),
            *_stale_map(live, keeps),
        ),
        requeue_after=min((wait for wait in waits if wait is not None), default=None),
        adapters=adapters,
        trials=trials,
        new_replicas=room.said,
        pokes=tuple(_pokes(live, mapped[0])) if mapped else (),
    )


@dataclass(frozen=True, slots=True)
class _Room:
    """Of adapters. `said`: why replicas are replaced; `announced` = they will be, once status has said so. `problem`:
    why no plan has the room."""

    said: str = ""
    announced: bool = False
    problem: Problem | None = None


def _target(
    service: LLMService,
    owner: Owner,
    live: Live,
    asked: Resolution,
    observed: Observed,
    config: OperatorConfig,
    found: Sequence[lora.Found],
) -> tuple[Frozen | None, Problem | None, _Room]:
    """The plan for this spec: the frozen one where there is one, else a new one, else why there is none."""
    number = 1 + max((kept["revision"] for kept in live.revisions.values()), default=0)
    running, kept, prepared = live.running(), asked.settled, asked.made.prepared
    if kept is not None:
        kept = (
            kept
            if running is not None and running.name == kept.name
            else brought_back(owner, service.spec, kept, number)
        )
    lacks = lora.lacks(kept, found) if kept is not None else ""
    if prepared is None or any(one.pending for one in found) or (kept is not None and not lacks):
        return kept, None, _Room()  # while some are being read it is not known how much room is wanted
    placed = place_service(service.spec, prepared.facts, prepared.revision, observed.nodes, config)
    if isinstance(placed, Placed) and found:
        wanted = room_wanted(lora.readable(found), prepared.facts, placed.plan.engine)
        placed = place_service(service.spec, prepared.facts, prepared.revision, observed.nodes, config, wanted)
    if isinstance(placed, Refusal):
        problem = Problem(placed.failure.value, f"{placed.reason} {refusal_remedy(placed)}".strip())
        return (None, problem, _Room()) if kept is None else (kept, None, _Room(problem=problem))
    made = freeze(owner, service, placed, prepared, config, number, live.revisions, asked.again)
    if kept is not None and (still := lora.lacks(made, found)):
        said = f"A plan was made for the sake of adapters, and its replicas would lack the same: {still}."
        return kept, None, _Room(problem=Problem(FailureClass.DOES_NOT_FIT, f"{said} Ask for fewer or smaller ones."))
    room = _Room(f"Replicas are replaced for the sake of adapters: {lacks}." if lacks else "")
    if kept is not None and kept == running and not _told(observed.service):
        return kept, None, dataclasses.replace(room, announced=True)
    return made, None, room


def _told(service: Json) -> bool:
    """Whether status has said of this very spec that replicas are replaced for the sake of adapters."""
    said = condition(service, ConditionType.ADAPTERS_READY)
    generation = service["metadata"].get("generation", 1)
    return said is not None and (said["reason"], said.get("observedGeneration")) == (
        Reason.ADAPTERS_NEED_ROOM,
        generation,
    )


def _pokes(live: Live, mapped: Json) -> Iterator[Poke]:
    """Replicas that are to look at the file now: the kubelet brings it within a minute, and at once to a pod that is
    written."""
    said = file_digest(mapped)
    if said != file_digest(live.adapter_map):
        return  # first what they are to look at
    for pod in live.replicas:
        annotations = pod["metadata"].get("annotations") or {}
        mounts = any(volume["name"] == ADAPTERS for volume in pod["spec"].get("volumes", ()))
        if mounts and annotations.get(ADAPTERS_SEEN) != said:
            yield Poke(pod["metadata"]["name"], pod["metadata"].get("uid", ""), ADAPTERS_SEEN, said)


def _stale_map(live: Live, keeps: bool) -> Iterator[Delete]:
    if live.adapter_map is not None and not keeps and "deletionTimestamp" not in live.adapter_map["metadata"]:
        metadata = live.adapter_map["metadata"]
        yield Delete("v1", "ConfigMap", metadata["name"], metadata["uid"])


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
    found: Sequence[lora.Found],
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
    unread = {one.job: one for one in found if not one.kept and not one.made.done}
    under_way = sum(one.pending and job in live.jobs for job, one in unread.items())
    to_read = [one for job, one in unread.items() if job not in live.jobs]
    for one in to_read[: max(0, lora.AT_A_TIME - under_way)]:
        yield adapter_job(owner, service.spec, one.adapter, config, account)
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
