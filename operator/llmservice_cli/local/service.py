"""One service: which generation of replicas serves, which one is coming, how many, and when they change places."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmservice_api.adapters import AdapterState
from llmservice_api.adapters_found import told_of
from llmservice_api.adapters_told import AdapterTold
from llmservice_api.adapters_tried import Taster, Tried, dead, tried
from llmservice_api.scaling import ScalingStatus
from llmservice_api.status import Condition
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.local.giving_way import Turn
from llmservice_cli.local.order import Order
from llmservice_cli.local.status import PATIENCE, View, adapters_of, loaded, observe, sharing, why_unready
from llmservice_cli.local.substrate import ReplicaFacts, Substrate
from llmservice_gateway.places import SPARE, Capacity, Speed
from llmservice_gateway.routing import About, Adapter, Backend, Replica
from llmservice_runtime.contract.adapters import Adapter as Loads
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.case import takes_pictures
from llmservice_scaling.told import ScalingTold

ADAPTED = "adapters changed"
"""What became of an order that differs in its adapters alone: nothing was replaced."""


def being_stopped(name: str) -> UserError:
    """Nothing can be asked of a service (by its full name) that somebody has ended."""
    return UserError(f"{name} is being stopped.", "Serve it again: `llmservice up -f FILE`.")


@dataclass(slots=True)
class Generation:
    """Replicas that run the same order."""

    order: Order
    names: list[str] = field(default_factory=list)
    told: tuple[Loads, ...] = ()
    """The adapters that they were told last..."""
    tried: Tried = field(default_factory=dict)
    """...and which of them tries what first."""
    died: dict[str, AdapterTold] = field(default_factory=dict)
    """Of those what one said that an engine died of; it may be gone."""

    def deaths(self, adapters: Sequence[Loads], facts: Sequence[ReplicaFacts]) -> dict[str, AdapterTold]:
        """`died` of these adapters, by what is known now of the replicas."""
        told, found = {one.name: one.adapters for one in facts}, {}
        for one in (one for one in self.told if one in adapters):
            says = told_of(one.name, one.uri, told.get(self.tried.get(one.name, ""), ()))
            if died := says if dead(says, one.revision or "") else self.died.get(one.name):
                found[one.name] = died
        return found

    def heirs(self, order: Order) -> Generation:
        """The next, of another order: what an engine died of is not tried by its replicas again."""
        died = {one.name: self.died[one.name] for one in order.adapters if one in self.told and one.name in self.died}
        return Generation(order, told=order.adapters, tried={name: self.tried[name] for name in died}, died=died)


class ServiceControl:
    """`apply` and `scale` say what is wanted, `settle` follows what the replicas do. New replicas start before old ones
    drain. `in_flight` counts the requests that the gateway has at a replica: newer than what a replica reports."""

    def __init__(self, order: Order, substrate: Substrate, in_flight: Callable[[str], int] = lambda _: 0) -> None:
        self.order = order
        self._substrate = substrate
        self._in_flight = in_flight
        self._serving: Generation | None = None
        self._coming: Generation | None = None
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._created = int(time.time())
        self._conditions: Sequence[Condition] = ()
        self._scaling: ScalingStatus | None = None
        self._asked: int | None = None
        """Replicas that were asked for while the service was being prepared for the first time."""
        self.stopping = False
        self.turn = Turn()

    def apply(self, order: Order) -> str:
        """Want `order` from now on; `created`, `unchanged`, `scaled`, ADAPTED, `replacing`, `preparing` or `failed`."""
        newest = self._coming or self._serving
        if newest is not None and order.managed:  # what there is stays, whatever the manifest says
            order = order.scaled(newest.order.replicas)
        if self._asked is not None and order.settings is not None:
            order, self._asked = order.scaled(self._asked), None
        same = newest is not None and order.digest == newest.order.digest
        if order.settings is None:
            self.order = order
            self._drop_coming()
            return "failed" if order.failure else "preparing"
        if same and newest is not None and not self._gave_up(newest):
            before, self.order = self.order, order
            adapted, newest.order = order.adapters != newest.order.adapters, order
            self._scale(newest)
            if adapted:
                self._adapt(newest)
                return ADAPTED
            return "unchanged" if before.replicas == order.replicas and before.settings else "scaled"
        self.order = order
        self._drop_coming()
        self._coming = newest.heirs(order) if newest else Generation(order, told=order.adapters)
        self._scale(self._coming)
        result = "created" if self._serving is None else "replacing"
        self.settle()
        return result

    def keep(self, order: Order) -> str:
        """As `apply`, for an order without settings that asks for what runs already; empty when it does not."""
        newest = self._coming or self._serving
        if newest is None or not order.same_model(newest.order) or self._gave_up(newest):
            return ""
        if newest.order.not_loaded:  # what is wrong with an adapter may have been mended
            return ""
        return self.apply(dataclasses.replace(newest.order, service=order.service))

    def scale(self, replicas: int) -> str:
        """Run so many replicas from now on, none when 0; `unchanged`, `scaled`, or as `apply`.

        While nothing is prepared it is kept for then. UserError once it is being stopped.
        """
        if self.stopping:
            raise being_stopped(self.order.service.full_name)
        if self.order.managed:
            raise UserError(
                f"demand decides how many replicas of {self.order.service.full_name} run.",
                "Change spec.scaling, or leave it out: `llmservice up -f FILE`.",
            )
        newest = self._coming or self._serving
        if newest is not None and self.order.settings is not None:
            return self.apply(newest.order.scaled(replicas))
        before, self.order = self.order.replicas, self.order.scaled(replicas)
        if newest is not None:  # what serves beside an order that could not be carried out
            newest.order = newest.order.scaled(replicas)
            self._scale(newest)
        else:
            self._asked = replicas
        return "unchanged" if before == replicas else "scaled"

    def decided(self, replicas: int) -> None:
        """As `scale`, of a service whose replicas demand decides."""
        newest = self._coming or self._serving
        if newest is not None and not self.stopping:
            self.order = self.order.scaled(replicas)
            newest.order = newest.order.scaled(replicas)
            self._scale(newest)

    def release(self, names: Sequence[str]) -> None:
        """These replicas give way to another service: fewer run from now on."""
        if self._serving is None or self.stopping:
            return
        leaving = [name for name in self._serving.names if name in names]
        self._serving.names = [name for name in self._serving.names if name not in leaving]
        self._serving.order = self._serving.order.scaled(len(self._serving.names))
        self.order = self.order.scaled(len(self._serving.names))
        self._leave(leaving)

    def drain_for_change(self) -> None:
        """The changed version has no room beside what serves: that ends, and then the other one starts."""
        if self._coming is not None and not self.stopping:
            leaving, self._serving, self._coming = self._serving, self._coming, None
            self._leave(leaving.names if leaving else ())

    def told(self, turn: Turn) -> bool:
        """How it shares the machine with others; whether that is news."""
        news, self.turn = turn != self.turn, turn
        return news

    def settle(self) -> None:
        """Let the coming generation take over once it serves, or at once when nothing serves now; tell its adapters to
        more replicas when one has tried them."""
        if not self.stopping and (newest := self._coming or self._serving) is not None:
            self._adapt(newest)
        if self._coming is None or self.stopping:
            return
        new = self._facts(self._coming)
        here = not self._coming.order.replicas or (
            any(facts.ready for facts in new) and all(facts.ready or facts.gave_up or facts.held for facts in new)
        )
        old = self._facts(self._serving) if self._serving else []
        if here or all(facts.gave_up for facts in old):
            leaving, self._serving, self._coming = self._serving, self._coming, None
            if leaving is not None:
                self._leave(leaving.names)

    async def stop(self, *, force: bool = False) -> None:
        """End all replicas; returns when none is left."""
        self.stopping = True
        names = [name for generation in (self._coming, self._serving) if generation for name in generation.names]
        ends = [self._substrate.stop(name, force=force) for name in (*names, *(self._leaving if force else ()))]
        await asyncio.gather(*ends, *self._leaving.values())

    @property
    def scales(self) -> bool:
        """Whether there is something that demand can decide about now, or could."""
        return self.order.looked_at and self.order.settings is not None and not self.stopping

    @property
    def newest(self) -> Order | None:
        """What the newest replicas run, or are to: the order, unless that has failed or is being prepared."""
        newest = self._coming or self._serving
        return newest.order if newest else None

    @property
    def adaptable(self) -> Order | None:
        """The same, if it has room for adapters."""
        settings = self.newest.settings if self.newest and not self.stopping else None
        return self.newest if settings and settings.adapter_count else None

    @property
    def replicas(self) -> list[ReplicaFacts]:
        """All that exist, the serving ones first."""
        return [*self._facts(self._serving), *self._facts(self._coming)]

    @property
    def shares(self) -> list[str]:
        """Sentences on how it shares the machine with others, where it does now."""
        return sharing(self._view())

    @property
    def changing(self) -> bool:
        """Replicas of a changed order are starting beside those that serve."""
        return self._coming is not None

    @property
    def waits_for_room(self) -> bool:
        """None of the newest replicas found room."""
        newest = self._facts(self._coming or self._serving)
        return bool(newest) and all(facts.held for facts in newest)

    @property
    def unprepared(self) -> bool:
        """Nothing runs, and nothing was handed over that could."""
        return self.order.settings is None and self.order.failure is None and not self.replicas

    @property
    def settled(self) -> bool:
        """Whether waiting longer for the newest order is pointless: it serves, or it has failed."""
        if self.order.settings is None:
            return self.order.failure is not None
        if not self.order.replicas:
            return True
        if self.waits_for_room and not self.turn.hopeless:
            return False
        newest = self._facts(self._coming or self._serving)
        failed = any(facts.gave_up or (facts.restarts >= PATIENCE and not facts.ready) for facts in newest)
        return failed or (bool(newest) and all(facts.ready or facts.held for facts in newest))

    def backend(self) -> Backend:
        """The service as the gateway routes to it."""
        ready = [facts for facts in self._facts(self._serving) if facts.ready and facts.name not in self.turn.closed]
        settings = self._serving.order.settings if self._serving else None
        return Backend(
            namespace=self.order.service.metadata.namespace,
            name=self.order.service.metadata.name,
            replicas=tuple(Replica(facts.name, facts.url, facts.waiting, loaded(facts)) for facts in ready),
            unready=why_unready(self._view()),
            created=self._created,
            context_tokens=settings.context_tokens if settings else 0,
            silent_seconds=2 * settings.progress_seconds if settings else 0.0,
            capacity=_capacity(settings) if settings else Capacity(),
            speed=_speed(ready),
            max_held=self.order.service.spec.endpoint.max_queued_requests,
            about=_about(self._serving.order if self._serving else self.order),
            adapters=self._adapters(),
        )

    def _adapters(self) -> tuple[Adapter, ...]:
        """Those of the spec, with what keeps them from being served."""
        failed = {
            entry["name"]: entry.get("message") or entry.get("reason") or "It failed."
            for entry in adapters_of(self._view())
            if entry["state"] == AdapterState.FAILED
        }
        names = sorted(adapter.name for adapter in self.order.service.spec.adapters)
        return tuple(Adapter(name, failed.get(name, "")) for name in names)

    def object(self, url: str, now: float, told: ScalingTold | None = None) -> LLMService:
        """The LLMService with its status, as `kubectl get -o yaml` would show it. `told`: of scaling by demand."""
        view = dataclasses.replace(self._view(), scaling=told, scaled=self._scaling)
        status = observe(view, url, self._conditions, now)
        self._conditions, self._scaling = status.conditions, status.scaling
        return self.order.service.model_copy(update={"status": status})

    def _view(self) -> View:
        shown = self._serving or self._coming or Generation(self.order)
        return View(
            order=self.order,
            serving=tuple(self._facts(self._serving)),
            coming=tuple(self._facts(self._coming)),
            tried=shown.tried,
            died=shown.died,
            stopping=self.stopping,
            turn=self.turn,
        )

    def _scale(self, generation: Generation) -> None:
        settings = generation.order.settings
        assert settings is not None
        wanted, here = generation.order.replicas, self._facts(generation)
        taken = {facts.slot for facts in here}
        free = (slot for slot in itertools.count() if slot not in taken)
        for slot in itertools.islice(free, max(0, wanted - len(here))):
            generation.names.append(
                self._substrate.start(
                    self.order.service.full_name,
                    slot,
                    settings,
                    generation.order.memory_bytes,
                    generation.order.gpus,
                    generation.order.adapters,
                    generation.tried,
                )
            )
        surplus = [facts.name for facts in sorted(here, key=self._worth)[: max(0, len(here) - wanted)]]
        generation.names = [name for name in generation.names if name not in surplus]
        self._leave(surplus)

    def _adapt(self, generation: Generation) -> None:
        """Tell its replicas what they are to load, where that is news."""
        adapters, here = generation.order.adapters, self._facts(generation)
        tasters = [Taster(facts.name, facts.ready, facts.adapters) for facts in here if not facts.gave_up]
        died = generation.deaths(adapters, here)
        first = tried(adapters, generation.told, generation.tried, tasters, died)
        generation.died = {name: says for name, says in died.items() if first.get(name) == generation.tried.get(name)}
        if (adapters, first) != (generation.told, generation.tried):
            generation.told, generation.tried = adapters, first
            for name in generation.names:
                self._substrate.adapt(name, adapters, first)

    def _worth(self, facts: ReplicaFacts) -> tuple[bool, int, int]:
        """Least first: those that don't serve, then the idle, then by what they do; the youngest of equals."""
        busy = max(self._in_flight(facts.name), facts.running + facts.waiting)
        return facts.ready, busy, -facts.slot

    def _drop_coming(self) -> None:
        if self._coming is not None:
            self._leave(self._coming.names)
            self._coming = None

    def _leave(self, names: Sequence[str]) -> None:
        for name in names:
            task = asyncio.get_running_loop().create_task(self._substrate.stop(name))
            self._leaving[name] = task
            task.add_done_callback(functools.partial(self._left, name))

    def _left(self, name: str, _: asyncio.Task[None]) -> None:
        self._leaving.pop(name, None)

    def _facts(self, generation: Generation | None) -> list[ReplicaFacts]:
        names = frozenset(generation.names if generation else ())
        return [facts for facts in self._substrate.replicas() if facts.name in names]

    def _gave_up(self, generation: Generation) -> bool:
        return any(facts.gave_up for facts in self._facts(generation))


def _speed(replicas: Sequence[ReplicaFacts]) -> Speed:
    """As the first of them measured it: they run the same order on the same machine."""
    load = next((facts.load for facts in replicas if facts.load is not None), None)
    if load is None:
        return Speed()
    return Speed(float(load.prompt_tokens_per_second or 0), float(load.together_tokens_per_second or 0))


def _about(order: Order) -> About:
    """What is known of the model, before it serves as well."""
    model, task = order.model, order.service.spec.task.value
    return About(
        task=order.plan.task or ("" if task == "Auto" else task),
        uri=order.service.spec.model.uri,
        revision=order.revision or "",
        engine=order.plan.engine or "",
        format=(model and model.format) or "",
        architecture=(model and model.architecture) or "",
        parameters=(model and model.parameters) or 0,
        quantization=(model and model.quantization) or "",
        file_bytes=(model and model.file_bytes) or 0,
        sees=takes_pictures(order.plan.notes),
        abilities=None if model is None or model.abilities is None else frozenset(model.abilities),
    )


def _capacity(settings: RuntimeSettings) -> Capacity:
    """What one replica computes together; a service that lets none wait lets none wait at a replica either."""
    return Capacity(settings.max_sequences, settings.kv_tokens, min(SPARE, settings.max_queued_requests))
