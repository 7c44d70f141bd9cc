"""Plan the services of manifests for one machine, one after the other: what the first takes, the next does not get."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from llmservice_api.manifest import Manifest
from llmservice_api.patterns import host_memory
from llmservice_api.scaling import ScalingMode
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_cli.adapters import ReadAdapter, read_adapters
from llmservice_cli.models import ResolvedModel, resolve
from llmservice_cli.places import Places
from llmservice_planning.adapters import room_wanted
from llmservice_planning.plan import Plan, Refusal
from llmservice_planning.planner import make_plan
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.registry import reads_gguf
from llmservice_runtime.estimate.budget import HOST, total
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Gpu, Machine
from llmservice_runtime.machine.visible import lists, seen, unknown
from llmservice_scaling.asked import rules

T = TypeVar("T")
_MODEL = {"spec": {"model"}}
_PLAN_APART: dict[str, Any] = {"metadata": True, "status": True, "spec": {"model": {"uri"}}}
"""What a plan does not depend on. Asked of whole services, as this is: a part would build a serializer of its own."""
ALLOW_REMOTE_CODE = "--allow-remote-code"
GIB = 1 << 30


def add_leave(parser: argparse.ArgumentParser) -> None:
    """What whoever owns the machine gives services leave for."""
    parser.add_argument(
        ALLOW_REMOTE_CODE,
        action="store_true",
        help="run the code that a model's repository brings, of services that set model.trustRemoteCode",
    )


def places_of(args: argparse.Namespace) -> Places:
    """The folders of this user, with the leave that the command gives."""
    return dataclasses.replace(Places.from_environment(), remote_code=args.allow_remote_code)


def memory_size(text: str) -> int:
    """`host_memory`, for an option."""
    try:
        return host_memory(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedService:
    """A service, its model, and what would run."""

    manifest: Manifest
    model: ResolvedModel
    plan: Plan | Refusal
    adapters: tuple[ReadAdapter, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """A service whose model can't be read, and why."""

    manifest: Manifest
    error: UserError


def plan_service(
    manifest: Manifest, machine: Machine, places: Places, adapters: tuple[ReadAdapter, ...] | None = None
) -> PlannedService:
    """What would run of one service. Raises UserError when its model can't be read. `adapters`: as they were read
    already."""
    model = resolve(manifest.service, manifest.base, places)
    if adapters is None:
        adapters = read_adapters(manifest.service, manifest.base, places)
    spec, revision = manifest.service.spec, model.files.revision
    refused = not_allowed(manifest, places) or not_there(spec, machine)
    plan = refused or with_room(spec, model.facts, visible(machine, spec), revision, adapters)
    return PlannedService(manifest, model, plan, adapters)


def with_room(
    spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, revision: str, adapters: tuple[ReadAdapter, ...]
) -> Plan | Refusal:
    """A plan with room for these adapters, as far as the model can have them."""
    plan = make_plan(spec, facts, machine, revision)
    found = {one.adapter.name: one.facts for one in adapters if one.facts is not None}
    if isinstance(plan, Refusal) or not found:
        return plan
    return make_plan(spec, facts, machine, revision, room_wanted(found, facts, plan.engine))


def not_allowed(manifest: Manifest, places: Places) -> Refusal | None:
    """What a service asks for that it was given no leave for."""
    scaling = manifest.service.spec.scaling
    if scaling is not None and scaling.mode is ScalingMode.EXTERNAL:
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            "scaling.mode is External, and on one machine there is no autoscaler beside this one.",
            ("Leave scaling.mode out, and demand decides.", "Set it to Fixed, and `llmservice scale` decides."),
            field="spec.scaling.mode",
        )
    if scaling is not None:
        rules(scaling)  # a UserError names the schedule that can't be read
    if not manifest.service.spec.model.trust_remote_code or places.remote_code:
        return None
    return Refusal(
        FailureClass.BAD_ARGUMENT,
        "model.trustRemoteCode is true, and code that models bring is not run here.",
        (
            f"Add {ALLOW_REMOTE_CODE} to the command: that code then runs with your rights.",
            "Leave model.trustRemoteCode out.",
        ),
        field="spec.model.trustRemoteCode",
    )


def plan_services(
    manifests: Iterable[Manifest], machine: Machine, places: Places
) -> Iterator[PlannedService | Unreadable]:
    """One answer for each of the manifests, in the order in which they are planned.

    A model that several of them name is read once, and what was planned once from equal inputs is not planned again.
    """
    models, plans = Once[ResolvedModel | UserError](), Once[Plan | Refusal]()
    for manifest in staying_first(manifests):
        service, spec = manifest.service, manifest.service.spec
        meant = (manifest.base, service.model_dump_json(include=_MODEL), reads_gguf(spec.engine.asked))
        model = models.get(meant, _resolved, manifest, places)
        if isinstance(model, UserError):
            yield Unreadable(manifest, model)
            continue
        adapters = read_adapters(service, manifest.base, places)
        inputs = (model.facts, visible(machine, spec), model.files.revision, adapters)
        plan = (
            not_allowed(manifest, places)
            or not_there(spec, machine)
            or plans.get((service.model_dump_json(exclude=_PLAN_APART), *inputs), with_room, spec, *inputs)
        )
        if isinstance(plan, Plan):
            machine = beside(machine, plan, spec)
        yield PlannedService(manifest, model, plan, adapters)


def _resolved(manifest: Manifest, places: Places) -> ResolvedModel | UserError:
    try:
        return resolve(manifest.service, manifest.base, places)
    except UserError as error:
        return error


class Once(Generic[T]):
    """Answers by what they follow from."""

    def __init__(self) -> None:
        self._known: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[..., T], *arguments: object) -> T:
        """`make(*arguments)`, or what it gave for an equal key before."""
        if key not in self._known:
            self._known[key] = make(*arguments)
        return self._known[key]


def kept(spec: LLMServiceSpec) -> int:
    """Replicas that stay whatever others need: as many as a person says, or minReplicas where demand decides."""
    return spec.scaling.min_replicas if spec.scaling is not None and spec.scaling.decides else max(1, spec.replicas)


def staying_first(manifests: Iterable[Manifest]) -> list[Manifest]:
    """The order of planning: as they are given, but services that give way to others after those that stay, so that
    they are planned with what they can have."""
    return sorted(manifests, key=lambda manifest: not kept(manifest.service.spec))


def beside(machine: Machine, plan: Plan, spec: LLMServiceSpec) -> Machine:
    """What is left of a machine for services that are planned next: all of it where this one gives way."""
    count = kept(spec)
    if not count:
        return machine
    host = total(plan.memory, HOST) * count
    mine = [gpu for gpu in visible(machine, spec).gpus if gpu.product == plan.accelerator]
    left = without(machine, mine[: plan.accelerator_count * count])
    return dataclasses.replace(left, memory_available=max(0, machine.memory_available - host))


def without(machine: Machine, gone: Iterable[Gpu]) -> Machine:
    """The same machine of which other services have these GPUs."""
    left, others = list(machine.gpus), list(machine.others)
    for gpu in gone:
        left.pop(next(n for n, one in enumerate(left) if one == gpu and one.id == gpu.id))
        others.append(gpu)
    return dataclasses.replace(machine, gpus=tuple(left), others=tuple(others))


def visible(machine: Machine, spec: LLMServiceSpec) -> Machine:
    """The machine as the engine of a service sees it: spec.engine.env may name some of its GPUs."""
    named = named_gpus(machine, spec)
    if named is None:
        return machine
    there = {gpu.id: gpu for gpu in machine.gpus}
    return dataclasses.replace(machine, gpus=tuple(there[gpu.id] for gpu in named if gpu.id in there))


def named_gpus(machine: Machine, spec: LLMServiceSpec) -> tuple[Gpu, ...] | None:
    """What spec.engine.env lets a service see, whoever has it; None = it says nothing, or of no real machine."""
    environ, gpus = _environ(spec), (*machine.gpus, *machine.others)
    return seen(gpus, environ) if lists(environ) and all(gpu.id for gpu in gpus) else None


def not_there(spec: LLMServiceSpec, machine: Machine) -> Refusal | None:
    """GPUs that spec.engine.env names and that services can't have here, or fewer than the service asks for."""
    named, environ, gpus = named_gpus(machine, spec), _environ(spec), (*machine.gpus, *machine.others)
    if named is None or not gpus:
        return None
    found = unknown(gpus, environ)
    if found is None and len(named) >= (spec.accelerator.count or 0):
        return None
    if found is None:
        name, how = lists(environ)[0], "names one GPU" if len(named) == 1 else f"names {len(named) or 'no'} GPUs"
        reason = f"engine.env: {name} is {environ[name]!r}, which {how}, and accelerator.count is"
        return _bad_env(f"{reason} {spec.accelerator.count}.", f"Name as many GPUs in {name}, or leave it out.")
    name, word = found
    here = ", ".join(f"{gpu.name} ({gpu.id})" for gpu in sorted(gpus, key=lambda gpu: gpu.name))
    hidden = "".join(f" {other} of this command's environment is {os.environ[other]!r}." for other in lists(os.environ))
    return _bad_env(
        f"engine.env: {name} names {word!r}, and services can have {here} here.{hidden}",
        f"Name one of these in {name}, or leave it out: GPUs are then given to replicas as they come free.",
    )


def _bad_env(reason: str, way: str) -> Refusal:
    return Refusal(FailureClass.BAD_ARGUMENT, reason, (way,), field="spec.engine.env")


def _environ(spec: LLMServiceSpec) -> dict[str, str]:
    return {variable.name: variable.value for variable in spec.engine.env}
