"""From a manifest to something that can be started: resolve, plan, download. Blocks; the progress is shown."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from llmservice_api.adapters import AdapterSpec
from llmservice_api.local_mode import cluster_only
from llmservice_api.manifest import Manifest
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.adapters import NotLoaded, ReadAdapter, chosen, read_adapters
from llmservice_cli.engine_builds import builds_here, can_be_installed, machine_here
from llmservice_cli.local.gpus import NO_GPU, GpuNeed
from llmservice_cli.local.holds import Hold, Memory, held, owners
from llmservice_cli.local.offer import ALSO, Offer
from llmservice_cli.local.order import Order
from llmservice_cli.local.room import SHRINK, Room
from llmservice_cli.memory_speed import with_memory_speed
from llmservice_cli.models import fetch_model, left_to_download, resolve
from llmservice_cli.ollama.links import revision_at
from llmservice_cli.places import Places
from llmservice_cli.plans import PlannedService, beside, kept, named_gpus, plan_service, visible, without
from llmservice_planning.explain import refusal_remedy, refusal_text, summary, text
from llmservice_planning.plan import AdapterRoom, Plan, Refusal
from llmservice_planning.to_settings import runtime_settings
from llmservice_planning.told import model_status, plan_status
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.cache import COMPILED_FOLDER
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.engines import registry
from llmservice_runtime.estimate.budget import GPU, HOST, total
from llmservice_runtime.machine.machine import Machine
from llmservice_runtime.sources.progress import Progress

log = logging.getLogger(__name__)
T = TypeVar("T")

THREAD = "prepare"
PHASE = "Preparing"
"""`phase` of failures that happen before a runtime exists."""


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """The instance that services are prepared for, as far as it says what they may have."""

    pid: int
    memory_bytes: int | None = None
    """What all of its replicas may have together; None = what the machine has."""
    gives_way: frozenset[str] = frozenset()
    """Its replicas that go when others need their memory."""
    orders: Mapping[str, Order] = dataclasses.field(default_factory=dict)
    """By the full names of its services, what it runs of those that have room for adapters."""

    @staticmethod
    def of(snapshot: dict[str, Any]) -> Joined:
        """What `Instance.snapshot` says of it."""
        gives_way = frozenset[str]()
        for entry in snapshot["services"]:
            spec = LLMService.model_validate(entry["object"]).spec
            if spec.scaling is not None and spec.scaling.decides:
                gives_way |= {facts["name"] for facts in entry["replicas"][kept(spec) :]}
        orders = [Order.from_body(entry["adaptable"]) for entry in snapshot["services"] if "adaptable" in entry]
        by_name = {order.service.full_name: order for order in orders}
        return Joined(snapshot["pid"], snapshot.get("memoryBytes"), gives_way, by_name)


class Preparation:
    """Plans one service after the other (what the first keeps, the next does not get), and downloads what they need
    side by side. `progress` makes one display per download, `offer` installs an engine that is not here. `joined` is
    the instance they are for, if not a fresh one of this process. `brief` = of a plan one line."""

    def __init__(
        self,
        places: Places,
        say: Callable[[str], None],
        progress: Callable[[], Progress],
        offer: Offer | None = None,
        joined: Joined | None = None,
        *,
        brief: bool = False,
    ) -> None:
        self._places = places
        self._say = say
        self._progress = progress
        self._offer = offer or Offer()
        self._brief = brief
        joined = joined or Joined(os.getpid())
        self._instance = joined.pid
        self._orders = joined.orders
        machine = with_memory_speed(machine_here(), places.cache)
        memory = Memory(
            machine.memory_bytes,
            machine.memory_available,
            tuple(Room().holds()),
            joined.memory_bytes,
            joined.pid,
            machine.gpus,
        ).without(joined.gives_way)
        self._holds = memory.holds
        self._gpus = machine.gpus
        left = without(machine, [gpu for gpu in machine.gpus if gpu.id in memory.taken])
        self._machine = dataclasses.replace(
            left, memory_bytes=memory.most, memory_available=max(0, min(memory.left, memory.most))
        )

    def prepare(self, manifest: Manifest, hand_over: Callable[[Order], None]) -> Future[None]:
        """Plan now and download in the background; then `hand_over` gets an order with settings, or with the failure
        that prevents them. Nothing of one service is raised here; the future has what `hand_over` raised."""
        planned = _guarded(manifest, lambda: self._plan(manifest))
        if isinstance(planned, Order):
            return _in_background(lambda: hand_over(planned))
        return _in_background(lambda: hand_over(_guarded(manifest, lambda: self._download(planned))))

    def _plan(self, manifest: Manifest) -> Order | PlannedService:
        name = manifest.service.full_name
        running = self._orders.get(name)
        adapters = read_adapters(manifest.service, manifest.base, self._places, resolved_in(running))
        if running is not None and (order := self._adapted(manifest, running, adapters)):
            return order
        machine = self._without_itself(name)
        planned = plan_service(manifest, machine, self._places, adapters)
        plan = planned.plan
        if isinstance(plan, Refusal):
            others = held(self._holds, self._instance) if plan.failure is FailureClass.DOES_NOT_FIT else ""
            others += self._who_has_gpus(machine) if _lacks_gpus(manifest, plan, machine) else ""
            self._say(refusal_text(name, plan) + (f"\n {others} {SHRINK}." if others else ""))
            remedy = f"{SHRINK}. {refusal_remedy(plan)}" if others else refusal_remedy(plan)
            return _failed(manifest, FailureRecord(plan.failure, plan.reason + others, remedy, PHASE))
        self._say(f"{name}: {summary(plan)}" if self._brief and not plan.missing else text(name, plan))
        for sentence in cluster_only(manifest.service.spec):
            self._say(f"{name}: {sentence}")
        if not (plan.accelerator_count or visible(machine, manifest.service.spec).gpus) and machine.others:
            self._say(f"{name}: It is planned for the CPU: other services have every GPU.{self._who_has_gpus(machine)}")
        if plan.missing and can_be_installed(plan.engine) and self._offer(name, plan.engine):
            self._machine = dataclasses.replace(self._machine, builds=builds_here())
            return self._plan(manifest)
        if plan.missing:
            message = f"The planned engine {plan.engine.value} is not installed on this machine."
            remedy = f"{plan.missing} {ALSO}" if can_be_installed(plan.engine) else plan.missing
            return _failed(manifest, FailureRecord(FailureClass.ENGINE_NOT_INSTALLED, message, remedy, PHASE))
        self._machine = beside(machine, plan, manifest.service.spec)
        return planned

    def _without_itself(self, name: str) -> Machine:
        """What a service can have: the GPUs that it has itself come free when a changed version takes over."""
        mine = {gpu for hold in self._holds if self._is(hold, name) for gpu in hold.gpus}
        back = tuple(gpu for gpu in self._machine.others if gpu.id in mine)
        others = tuple(gpu for gpu in self._machine.others if gpu.id not in mine)
        return dataclasses.replace(self._machine, gpus=(*self._machine.gpus, *back), others=others)

    def _is(self, hold: Hold, name: str) -> bool:
        return hold.service == name and hold.instance == self._instance

    def _who_has_gpus(self, machine: Machine) -> str:
        """` default/a has GPU 0.`: a sentence to add; empty when nobody has any."""
        who = owners(self._holds, self._instance)
        parts = [f"{who[gpu.id]} has {gpu.name}" for gpu in machine.others if gpu.id in who]
        return f" {', '.join(parts)}." if parts else ""

    def _gpus_of(self, plan: Plan, manifest: Manifest) -> GpuNeed:
        named = named_gpus(dataclasses.replace(self._machine, gpus=self._gpus, others=()), manifest.service.spec)
        among = tuple(gpu.id for gpu in named or ())
        return GpuNeed(plan.accelerator, plan.accelerator_count, total(plan.memory, GPU), among)

    def _adapted(self, manifest: Manifest, running: Order, adapters: tuple[ReadAdapter, ...]) -> Order | None:
        """What runs, with other adapters; None where that is not all that was edited, or there is no room for them."""
        wanted = Order(manifest.service, str(manifest.base))
        settings = running.settings
        if settings is None or not wanted.same_but_adapters(running):
            return None
        model = resolve(manifest.service, manifest.base, self._places)
        room = AdapterRoom(settings.adapter_count, settings.adapter_rank)
        told, not_loaded, beyond = chosen(adapters, model.facts, settings.engine, room)
        if beyond:
            self._say(f"{manifest.service.full_name}: its replicas are replaced for the sake of adapters: {beyond}.")
            return None
        self._tell(manifest, not_loaded)
        return dataclasses.replace(running, service=manifest.service, adapters=told, not_loaded=not_loaded)

    def _tell(self, manifest: Manifest, not_loaded: NotLoaded) -> None:
        for adapter, _, said in not_loaded:
            self._say(f"{manifest.service.full_name}: its adapter {adapter} is not served: {said}")

    def _compiled(self, engine: EngineType) -> str:
        """Where engines that compile keep it; empty for the others."""
        return str(self._places.cache / COMPILED_FOLDER) if registry.definition(engine).caches else ""

    def _download(self, planned: PlannedService) -> Order:
        manifest, plan, model = planned.manifest, planned.plan, planned.model
        assert isinstance(plan, Plan)
        if sentence := left_to_download(model, self._places):
            self._say(f"{manifest.service.full_name}: {sentence}")
        path = fetch_model(model, self._places, self._progress())
        revision = model.files.revision or revision_at(path.parent, self._places.cache)
        told, not_loaded, _ = chosen(planned.adapters, model.facts, plan.engine, plan.adapters)
        self._tell(manifest, not_loaded)
        settings = dataclasses.replace(
            runtime_settings(plan, manifest.service, str(path), model.facts), compiled=self._compiled(plan.engine)
        )
        if settings.adapter_count:
            settings = dataclasses.replace(settings, adapters_cache=str(self._places.cache), adapters_private=True)
        return Order(
            manifest.service,
            str(manifest.base),
            settings=settings,
            adapters=told,
            not_loaded=not_loaded,
            plan=plan_status(plan, settings),
            revision=revision or None,
            model=model_status(model.facts, revision),
            memory_bytes=total(plan.memory, HOST),
            gpus=self._gpus_of(plan, manifest) if plan.accelerator_count else NO_GPU,
        )


def _lacks_gpus(manifest: Manifest, refusal: Refusal, machine: Machine) -> bool:
    """Whether a service may be refused for want of what others have."""
    spec = manifest.service.spec
    left = visible(machine, spec)
    many = (spec.accelerator.count or 0) > left.gpu_count
    return refusal.field != "spec.engine.env" and (
        not left.gpus or many or refusal.failure is FailureClass.DOES_NOT_FIT
    )


def resolved_in(order: Order | None) -> dict[AdapterSpec, Adapter]:
    """Adapters of what runs as they were resolved: they stay what they are."""
    if order is None:
        return {}
    told = {adapter.name: adapter for adapter in order.adapters}
    return {spec: told[spec.name] for spec in order.service.spec.adapters if spec.name in told}


def _guarded(manifest: Manifest, step: Callable[[], T]) -> T | Order:
    """What a step gives, or an order with the failure it ended in: the other services go on in any case."""
    try:
        return step()
    except UserError as error:
        return _failed(manifest, FailureRecord(error.failure, error.reason, error.remedy, PHASE))
    except Exception as error:
        log.exception("preparing %s", manifest.service.full_name)
        reason = f"Preparing it met an error that nobody foresaw: {type(error).__name__}: {error}"
        remedy = "Report it with the lines above; another model or format may work meanwhile."
        return _failed(manifest, FailureRecord(FailureClass.CRASHED, reason, remedy, PHASE))


def preparing() -> bool:
    """Whether something is still being prepared in this process."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def _in_background(work: Callable[[], None]) -> Future[None]:
    """On a daemon thread: an interrupt of the command does not wait for it, and a download can be resumed."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
            future.set_result(None)
        except BaseException as error:  # whoever waits for the future gets it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name=THREAD).start()
    return future


def _failed(manifest: Manifest, failure: FailureRecord) -> Order:
    return Order(manifest.service, str(manifest.base), failure=failure)
