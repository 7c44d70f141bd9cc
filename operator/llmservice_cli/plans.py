"""Plan the services of manifests for one machine, one after the other: what the first takes, the next does not get."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from llmservice_api.manifest import Manifest
from llmservice_cli.models import ResolvedModel, resolve
from llmservice_cli.places import Places
from llmservice_planning.plan import Plan, Refusal
from llmservice_planning.planner import make_plan
from llmservice_runtime.estimate.budget import HOST, total
from llmservice_runtime.machine.machine import Machine


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedService:
    """A service, its model, and what would run."""

    manifest: Manifest
    model: ResolvedModel
    plan: Plan | Refusal


def plan_services(manifests: Iterable[Manifest], machine: Machine, places: Places) -> Iterator[PlannedService]:
    """Plans in the order of the manifests. Raises UserError when a model can't be read."""
    for manifest in manifests:
        model = resolve(manifest.service, manifest.base, places)
        plan = make_plan(manifest.service.spec, model.facts, machine, model.files.revision)
        if isinstance(plan, Plan):
            machine = without(machine, plan, max(1, manifest.service.spec.replicas))
        yield PlannedService(manifest, model, plan)


def without(machine: Machine, plan: Plan, replicas: int = 1) -> Machine:
    """What is left of a machine beside `replicas` of a plan."""
    left = list(machine.gpus)
    for _ in range(min(plan.accelerator_count * replicas, machine.gpu_count)):
        left.remove(machine.gpu)  # type: ignore[arg-type]  # there is one while the count is above zero
    host = total(plan.memory, HOST) * replicas
    return dataclasses.replace(machine, memory_available=max(0, machine.memory_available - host), gpus=tuple(left))
