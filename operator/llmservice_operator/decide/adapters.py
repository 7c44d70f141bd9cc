"""A service's adapters: what is known of each, whether a plan has room for them, and which of them replicas load."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from llmservice_api.adapters import AdapterSpec
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.adapter_job import adapter_job_name
from llmservice_operator.children.adapter_map import AdapterRead, read_in, told_in
from llmservice_operator.children.adapter_mounts import mounted_secrets, mounts_map, secret_folder
from llmservice_operator.decide.preparation import Preparation, preparation, reported, unreadable
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live
from llmservice_operator.facts.owner import Owner, digest
from llmservice_operator.facts.problem import Problem
from llmservice_planning.adapters import Judged, judged, why_not
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.formats.lora_facts import LoraFacts
from llmservice_runtime.prepare.report import Prepared

AT_A_TIME = 8
"""Jobs that read adapters of one service."""


@dataclass(frozen=True, slots=True)
class Found:
    """One of spec.adapters. `job` reads it, `made` is what came of that; `kept` = the ConfigMap knows it already."""

    adapter: AdapterSpec
    job: str
    made: Preparation = field(default_factory=Preparation)
    read: AdapterRead | None = None
    kept: bool = False
    served: bool = False
    """Whether replicas are told of one of this name."""

    @property
    def key(self) -> str:
        """Under which it is remembered what was read: of another source or revision it is another one."""
        return key_of(self.adapter)

    @property
    def pending(self) -> bool:
        """Whether it is being read, and nothing is wrong with that."""
        return self.read is None and self.made.problem is None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One of spec.adapters with what a plan makes of it: replicas load it, unless it has a `problem` or `waits`."""

    found: Found
    problem: Problem | None = None
    waits: str = ""
    """Why replicas don't have it yet, a sentence; empty = they are told to load it."""

    @property
    def told(self) -> bool:
        """Whether replicas are to load it."""
        return self.problem is None and not self.waits


def key_of(adapter: AdapterSpec) -> str:
    """`Found.key`."""
    return digest([adapter.uri, adapter.revision])


def find(owner: Owner, spec: LLMServiceSpec, live: Live, now: datetime) -> tuple[Found, ...]:
    """What is known of each, in the order of the spec."""
    known, served = read_in(live.adapter_map), {adapter.name for adapter in told_in(live.adapter_map)}
    made = (_find(owner, spec, adapter, known.get(key_of(adapter)), live, now) for adapter in spec.adapters)
    return tuple(dataclasses.replace(one, served=one.adapter.name in served) for one in made)


def _find(
    owner: Owner, spec: LLMServiceSpec, adapter: AdapterSpec, known: AdapterRead | None, live: Live, now: datetime
) -> Found:
    job = adapter_job_name(owner, spec, adapter)
    if known is not None:
        return Found(adapter, job, read=known, kept=True)
    made = preparation(live, job, now)
    if not made.done:
        return Found(adapter, job, made)
    text = reported(live, job)
    if not text:  # its report is gone with its pod: it is read again
        return Found(adapter, job, dataclasses.replace(made, retry_in=0.0) if made.lost else made)
    try:
        return Found(adapter, job, made, AdapterRead.of(json.loads(text)))
    except (ValueError, RecursionError) as error:
        return Found(adapter, job, dataclasses.replace(made, problem=unreadable(ValueError(error))))


def room_of(frozen: Frozen) -> AdapterRoom:
    """What a plan has reserved for adapters; plans of an earlier release have nothing."""
    kept = frozen.plan.get("adapters")
    sizes = [kept.get(name) for name in ("count", "rank")] if isinstance(kept, Mapping) else []
    known = [size for size in sizes if isinstance(size, int)]
    return AdapterRoom(*known) if len(known) == 2 else AdapterRoom()


def readable(found: Iterable[Found]) -> dict[str, LoraFacts]:
    """What is known of their headers, by their names."""
    return {one.adapter.name: one.read.facts for one in found if one.read is not None}


def lacks(frozen: Frozen, found: Sequence[Found]) -> str:
    """What a plan's replicas lack for what is asked for (a clause); empty when they do, as far as that is known."""
    if (made := _judged(frozen, found)) is None:
        return ""
    clauses = [made.beyond[one.adapter.name] for one in found if one.adapter.name in made.beyond]
    secrets = mounted_secrets(frozen)
    usable = (one.adapter for one in found if one.read is not None and one.adapter.name not in made.refused)
    clauses += [
        f"they don't have the Secret {adapter.secret_ref.name} of {adapter.name}"
        for adapter in usable
        if adapter.secret_ref is not None and adapter.secret_ref.name not in secrets
    ]
    return next(iter(clauses), "")


def wanted(frozen: Frozen | None, found: Sequence[Found], no_room: Problem | None = None) -> tuple[Wanted, ...]:
    """What the replicas of a plan are told of each. `no_room`: why no plan has room for all."""
    made = _judged(frozen, found) if frozen is not None else None
    if frozen is None or made is None:
        return tuple(Wanted(one, one.made.problem, "" if one.made.problem else NO_PLAN) for one in found)
    secrets = mounted_secrets(frozen)
    return tuple(_wanted(one, made, secrets, no_room) for one in found)


def _wanted(one: Found, made: Judged, secrets: frozenset[str], no_room: Problem | None) -> Wanted:
    name, secret = one.adapter.name, one.adapter.secret_ref
    if one.read is None:
        return Wanted(one, one.made.problem, "" if one.made.problem else READING)
    if name in made.refused:
        return Wanted(one, Problem(*why_not(made.refused[name])))
    if name in made.beyond or (secret is not None and secret.name not in secrets):
        return Wanted(one, no_room, "" if no_room else NEW_REPLICAS)
    return Wanted(one)


def _judged(frozen: Frozen, found: Sequence[Found]) -> Judged | None:
    """None where the model's facts can't be read, or its engine is one of another release."""
    facts = model_facts(frozen)
    if facts is None or frozen.engine not in list(EngineType):
        return None
    served = {one.adapter.name for one in found if one.served}
    return judged(readable(found), facts, EngineType(frozen.engine), room_of(frozen), served)


def files(made: Iterable[Wanted]) -> list[Adapter]:
    """What replicas read, in the order of names: another order of the spec is no news."""
    return sorted((_file(one) for one in made if one.told), key=lambda adapter: adapter.name)


def _file(one: Wanted) -> Adapter:
    adapter, read = one.found.adapter, one.found.read
    assert read is not None
    secret = secret_folder(adapter.secret_ref.name) if adapter.secret_ref else None
    return Adapter(adapter.name, adapter.uri, read.revision or None, secret)


def keeps_map(found: Sequence[Found], *plans: Frozen | None) -> bool:
    """Whether there is to be a ConfigMap: there are adapters, or replicas that may still have some."""
    return bool(found) or any(plan is not None and mounts_map(plan) for plan in plans)


def model_facts(frozen: Frozen) -> ModelFacts | None:
    """Of the model that a plan is for; None where an earlier release wrote them in another way."""
    try:
        return Prepared.from_json(frozen.prepared).facts
    except ValueError:
        return None


NO_PLAN = "There is no plan yet."
READING = "A Job reads its headers."
NEW_REPLICAS = "It comes with replicas that have room for it."
