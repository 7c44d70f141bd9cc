"""Where a service could run: kinds of nodes as machines to plan for, and the first that takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from llmservice_api.v1alpha1 import AcceleratorSpec, LLMServiceSpec
from llmservice_operator.facts.config import OperatorConfig, RuntimeImage
from llmservice_operator.facts.gpus import gpu_of, unseen_gpu
from llmservice_operator.facts.nodes import NodeKind
from llmservice_operator.facts.quantity import parse_quantity
from llmservice_operator.facts.vendors import DEFAULT_RESOURCE, VENDORS, vendor
from llmservice_planning.plan import Fit, Plan, Refusal
from llmservice_planning.planner import NO_ROOM, make_plan
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device, EngineBuild, Gpu, Machine

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
COMMON_FLAGS = frozenset({"avx2"})
"""What every server CPU of the last ten years has; nodes do not say."""
UNSEEN = NodeKind(4, 16 << 30, "amd64")
"""What is assumed of nodes that may not be read; the fit is Unknown then."""
UNSEEN_GPU_BYTES = 24 << 30
BOUNDLESS = 1 << 50
"""Bytes of a GPU that takes everything."""


@dataclass(frozen=True, slots=True)
class Place:
    """A machine to plan for. `resource` is the accelerator's resource name, empty on a CPU.

    `sure` = some node is known to be like it. Without that its memory may still be exact: what the spec limits it to.
    """

    machine: Machine
    resource: str = ""
    product_label: str = ""
    product: str = ""
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Placed:
    """A plan, the place it was made for, the image that runs it, and every product it may run on, the planned first."""

    plan: Plan
    resource: str
    image: str
    product_label: str = ""
    products: tuple[str, ...] = ()


def place_service(
    spec: LLMServiceSpec,
    facts: ModelFacts,
    revision: str,
    nodes: tuple[NodeKind, ...] | None,
    config: OperatorConfig,
    room: AdapterRoom = NO_ROOM,
) -> Placed | Refusal:
    """The first place that surely takes it with so much `room` for adapters, else the first that may; else why the most
    promising one does not."""
    config = _own_image(spec, config)
    refusal: Refusal | None = None
    unknown: Placed | None = None
    known = list(places(spec, nodes, config))
    for place in known:
        made = _over_limit(spec, facts, place, revision) or make_plan(spec, facts, place.machine, revision, room)
        if isinstance(made, Refusal):
            refusal = refusal or _lacks_device(spec, facts, place, revision, config) or made
            continue
        if place.resource and spec.accelerator.resource_name and not made.accelerator_count:
            refusal = refusal or _no_build(place.resource, made)
            continue
        image = image_for(made, place, config)
        if image is None:
            refusal = refusal or _no_image(made, place, config)
        elif made.fit is Fit.FITS and place.sure:
            return _placed(made, place, image, known)
        else:
            unknown = unknown or _placed(dataclasses.replace(made, fit=Fit.UNKNOWN), place, image)
    if unknown:
        return unknown
    assert refusal is not None, "there is always at least one place"
    return refusal


def _over_limit(spec: LLMServiceSpec, facts: ModelFacts, place: Place, revision: str) -> Refusal | None:
    """Why it would break the spec's own memory limit however large the unknown accelerator is; None = it need not."""
    if place.sure or not place.resource or spec.resources.limits.memory is None:
        return None
    gpu = dataclasses.replace(place.machine.gpus[0], memory_bytes=BOUNDLESS)
    gpus = (gpu,) * max(len(place.machine.gpus), _stated_gpus(spec, {gpu.vendor}))
    made = make_plan(spec, facts, dataclasses.replace(place.machine, gpus=gpus, exact=True), revision)
    return made if isinstance(made, Refusal) and made.failure is FailureClass.DOES_NOT_FIT else None


def places(spec: LLMServiceSpec, nodes: tuple[NodeKind, ...] | None, config: OperatorConfig) -> Iterator[Place]:
    """Accelerators before CPUs, the smallest that takes it first; the largest CPU node."""
    kinds = nodes or (UNSEEN,)
    wanted = spec.accelerator.resource_name
    devices = {device for image in config.images for device in image.devices}
    found = False
    if spec.accelerator.count != 0:
        gpus = [place for kind in kinds for place in _accelerators(kind, spec, devices, config)]
        gpus.sort(key=lambda place: place.machine.gpus[0].memory_bytes if place.machine.gpus else 0)
        found = bool(gpus)
        yield from gpus
    asked = bool(_stated_gpus(spec, devices)) or wanted is not None
    if asked and not found:
        yield _unseen(spec, devices, config)
    if not asked:
        largest = max(kinds, key=lambda kind: (kind.memory_bytes, kind.cpus))
        limited = spec.resources.limits.memory is not None
        yield Place(_machine(largest, (), spec, config, bool(nodes), exact=bool(nodes) or limited), sure=bool(nodes))


def _stated_gpus(spec: LLMServiceSpec, devices: Container[Device]) -> int:
    """How many GPUs the spec asks for, also by parallel sizes among engine.args; 0 = it leaves that to the plan.

    Parallel sizes may share a CPU's nodes instead where no image is for a GPU (`devices` = what images are for).
    """
    if spec.accelerator.count is not None or not any(device in devices for device in DEFAULT_RESOURCE):
        return spec.accelerator.count or 0
    engines = (spec.engine.asked,) if spec.engine.asked else EngineType
    return max(_shared_by(engine, spec.engine.args) for engine in engines)


def _shared_by(engine: EngineType, args: Sequence[str]) -> int:
    """GPUs that an engine's arguments spread the model over; 0 when they don't say, or are not this engine's."""
    try:
        layout = definition(engine).memory(args).asked.layout
    except UserError:
        return 0  # the plan says what is wrong with them
    return layout.gpus if layout is not None and layout.gpus > 1 else 0


def image_for(plan: Plan, place: Place, config: OperatorConfig) -> str | None:
    """The first configured image that has the plan's engine for the place's device."""
    gpu = place.machine.gpu if plan.accelerator_count else None
    device = gpu.vendor if gpu else Device.CPU
    return next((i.image for i in config.images if plan.engine in i.engines and device in i.devices), None)


def _own_image(spec: LLMServiceSpec, config: OperatorConfig) -> OperatorConfig:
    """An image of the service's own is believed to carry the engine that the spec names, for every device."""
    if spec.engine.image is None or spec.engine.asked is None:  # the API lets no image come without an engine
        return config
    image = RuntimeImage(spec.engine.image, (spec.engine.asked,), tuple(Device))
    return dataclasses.replace(config, images=(image,))


def _accelerators(
    kind: NodeKind, spec: LLMServiceSpec, devices: set[Device], config: OperatorConfig
) -> Iterator[Place]:
    wanted = spec.accelerator.resource_name
    for resource, count in kind.resources:
        ours = any(resource.startswith(start) for start in VENDORS)
        if resource != wanted if wanted else not ours or vendor(resource) not in devices:
            continue
        known = gpu_of(kind, resource, config)
        gpu, exact = known or (unseen_gpu(resource, UNSEEN_GPU_BYTES), False)
        said = spec.accelerator.memory is not None
        machine = _machine(kind, (gpu,) * count, spec, config, seen=True, exact=exact or said)
        yield Place(machine, resource, kind.product_label, kind.product, sure=known is not None or said)


def _unseen(spec: LLMServiceSpec, devices: set[Device], config: OperatorConfig) -> Place:
    """An accelerator that was asked for and that no node has, or none that may be read: the scheduler decides."""
    device = next((device for device in DEFAULT_RESOURCE if device in devices), Device.NVIDIA)
    resource = spec.accelerator.resource_name or DEFAULT_RESOURCE[device]
    gpus = (unseen_gpu(resource, UNSEEN_GPU_BYTES),) * (_stated_gpus(spec, devices) or 1)
    return Place(_machine(UNSEEN, gpus, spec, config, seen=False, exact=False), resource, sure=False)


def _machine(
    kind: NodeKind, gpus: tuple[Gpu, ...], spec: LLMServiceSpec, config: OperatorConfig, seen: bool, exact: bool
) -> Machine:
    """`spec`'s memory limit bounds what may be planned; of nodes that were not `seen` nothing else does."""
    memory = kind.memory_bytes
    if spec.resources.limits.memory is not None:
        limit = int(parse_quantity(spec.resources.limits.memory))
        memory = min(memory, limit) if seen else limit
    return Machine(
        cpus=max(1, kind.cpus),
        memory_bytes=memory,
        memory_available=memory,
        cpu_flags=COMMON_FLAGS,
        architecture=ARCHITECTURES.get(kind.architecture, kind.architecture),
        gpus=gpus,
        builds=builds(config),
        exact=exact,
    )


def builds(config: OperatorConfig) -> tuple[EngineBuild, ...]:
    """Every engine, for the devices that an image has it for."""
    found = []
    for engine in EngineType:
        devices = frozenset(device for image in config.images if engine in image.engines for device in image.devices)
        found.append(EngineBuild(engine, devices or frozenset(Device), bool(devices), "" if devices else _MISSING))
    return tuple(found)


_MISSING = "No image of this installation carries it."


def _placed(plan: Plan, place: Place, image: str, others: Sequence[Place] = ()) -> Placed:
    gpu = plan.accelerator_count > 0
    products: tuple[str, ...] = ()
    if gpu and place.product_label and place.product:
        takers = [other.product for other in others if _takes(plan, place, other)]
        products = tuple(dict.fromkeys([place.product, *sorted(takers)]))
    return Placed(plan, place.resource if gpu else "", image, place.product_label if products else "", products)


def _takes(plan: Plan, planned: Place, other: Place) -> bool:
    """Whether a plan for one kind of GPU runs on another as well: it surely has no less of anything."""
    one, two = planned.machine.gpu, other.machine.gpu
    return (
        one is not None
        and two is not None
        and other.machine.exact
        and (other.resource, other.product_label) == (planned.resource, planned.product_label)
        and two.memory_bytes >= one.memory_bytes
        and two.capability >= one.capability
        and other.machine.gpu_count >= plan.accelerator_count
    )


def _no_build(resource: str, plan: Plan) -> Refusal:
    return Refusal(
        FailureClass.ENGINE_NOT_INSTALLED,
        f"accelerator.resourceName asks for {resource}, and no image of this installation is built for it.",
        ("Have an image for it added to the operator's configuration.", "Leave accelerator.resourceName out."),
        plan.rejected,
    )


def _lacks_device(
    spec: LLMServiceSpec, facts: ModelFacts, place: Place, revision: str, config: OperatorConfig
) -> Refusal | None:
    """Whether only an image is missing: an engine would run the model there, and none is built for that device."""
    if not place.machine.gpus:
        return None
    anywhere = tuple(EngineBuild(engine, frozenset(Device)) for engine in EngineType)
    made = make_plan(spec, facts, dataclasses.replace(place.machine, builds=anywhere), revision)
    if isinstance(made, Refusal) or not made.accelerator_count or image_for(made, place, config) is not None:
        return None
    on_cpu = spec.model_copy(update={"accelerator": AcceleratorSpec(count=0)})
    works = isinstance(make_plan(on_cpu, facts, place.machine, revision), Plan)
    cpu = ("Write accelerator: {count: 0} instead: the model then runs on the CPU.",) if works else ()
    return _no_image(made, place, config, cpu)


def _no_image(plan: Plan, place: Place, config: OperatorConfig, ways: tuple[str, ...] = ()) -> Refusal:
    """`ways` out beside another image."""
    gpu = place.machine.gpu if plan.accelerator_count else None
    where = f"{gpu.vendor.value} accelerators ({place.resource})" if gpu else "the CPU"
    carried = sorted(
        f"{engine.value} for {device.value}"
        for image in config.images
        for engine in image.engines
        for device in image.devices
    )
    return Refusal(
        FailureClass.ENGINE_NOT_INSTALLED,
        f"The plan asks for {plan.engine.value} on {where}, and no image of this installation carries it.",
        (f"Have an image for it added to the operator's configuration (there: {', '.join(carried)}).", *ways),
        plan.rejected,
    )
