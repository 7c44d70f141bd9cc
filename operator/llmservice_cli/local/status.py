"""From what is wanted and what runs to a status with conditions, and to the sentence a client gets. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmservice_api.adapters import AdapterStatus
from llmservice_api.adapters_found import AskedFor, adapter_entries, adapters_ready, told_of
from llmservice_api.adapters_told import AdapterTold
from llmservice_api.adapters_tried import Tried
from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import (
    FALSE,
    TRUE,
    UNKNOWN,
    Finding,
    as_asked,
    available,
    conditions,
    idle,
    not_served,
    resolved,
    serving,
    serving_earlier,
    valid,
)
from llmservice_api.scaling import ScalingStatus
from llmservice_api.status import Condition, LLMServiceStatus, ModelStatus
from llmservice_cli.local.giving_way import Turn
from llmservice_cli.local.order import Order
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.routing import Unready
from llmservice_runtime.contract.adapters import AdapterState
from llmservice_runtime.contract.failure import FailureRecord
from llmservice_runtime.wire.errors import MAX_RETRY_AFTER
from llmservice_scaling.told import ScalingTold, scaling_findings, scaling_status

LOADING_RETRY = 5
"""Seconds after which to ask again for what is being loaded, where nobody knows how long that takes."""

PATIENCE = 2
"""Failed starts after which whoever waits for a service is told that it failed; it is still tried again."""


@dataclass(frozen=True, slots=True)
class View:
    """One service at one moment. `coming` are the replicas of a changed order that do not serve yet."""

    order: Order
    serving: tuple[ReplicaFacts, ...] = ()
    coming: tuple[ReplicaFacts, ...] = ()
    stopping: bool = False
    tried: Tried = field(default_factory=dict)
    died: Mapping[str, AdapterTold] = field(default_factory=dict)
    """Of what is tried: that an engine died of it."""
    turn: Turn = field(default_factory=Turn)
    scaling: ScalingTold | None = None
    """What was decided by demand."""
    scaled: ScalingStatus | None = None
    """What was told of it before."""

    @property
    def ready(self) -> int:
        """Replicas that take requests."""
        return sum(facts.ready for facts in self.serving)

    @property
    def gives_way_to(self) -> str:
        """The service for which all of its replicas that are ready get no new work; empty = there is none."""
        ready = [facts.name for facts in self.serving if facts.ready]
        return next(iter(self.turn.closed.values()), "") if all(name in self.turn.closed for name in ready) else ""

    def waits(self, replicas: Sequence[ReplicaFacts]) -> bool:
        """Whether none of these found room yet, and there will be some, as far as is known."""
        return bool(replicas) and all(facts.held for facts in replicas) and not self.turn.hopeless


def why_unready(view: View) -> Unready:
    """Why no replica is ready (what a client is told with a 503), and whether its requests wait for one.

    They don't where that may last for ever: a replica for which there will be no room, or that failed several times.
    """
    if view.stopping:
        return Unready(Reason.DRAINING, "The service is being stopped.", retry_after=5, held=False)
    if view.order.failure is not None and not view.serving:
        return _failed(view.order.failure, final=True)
    for facts in view.serving:
        if facts.gave_up and facts.failure is not None:
            return _failed(facts.failure, final=True)
    if view.waits(view.serving):
        return Unready(Reason.WAITING_FOR_ROOM, waits_for_room(view.turn))
    if view.ready and view.gives_way_to:
        return Unready(Reason.GIVES_WAY, f"{_gives_way(view)} New requests wait for its next turn.")
    for facts in view.serving:
        if facts.failure is not None and not facts.ready:
            return _failed(facts.failure, final=False, held=not facts.held and facts.restarts < PATIENCE)
    if view.order.managed and view.order.settings is not None and not view.order.replicas:
        rested = view.turn.rested or "Nobody asks for it now"
        return Unready(Reason.IDLE, f"{rested}; a request waits and starts it.")
    if view.order.settings is not None and not view.order.replicas:
        scale = f"llmservice scale {view.order.service.full_name} --replicas 1"
        return Unready(Reason.STOPPED, "spec.replicas is 0.", f"Start it: {scale}", final=True)
    if not view.serving:
        return Unready(Reason.DOWNLOADING, "The model is being prepared; `llmservice up` shows the progress.")
    if any(facts.draining for facts in view.serving):
        return Unready(Reason.DRAINING, "The replica is shutting down.", retry_after=5)
    first = next((facts for facts in view.serving if not facts.ready), view.serving[0])
    if first.queued:
        return Unready(Reason.LOADING, f"It {first.queued}.", retry_after=LOADING_RETRY)
    etas = [facts.eta for facts in view.serving if facts.eta is not None]
    percent = "" if first.percent is None else f" {first.percent} %"
    return Unready(Reason.LOADING, f"The model is being loaded ({first.phase}{percent}).", retry_after=_again(etas))


def waits_for_room(turn: Turn) -> str:
    """What a service waits for that found no room beside others."""
    if not turn.awaits:
        return "It waits for room, which comes free." if turn.awaits is not None else "It waits for room."
    who, give = ", ".join(turn.awaits), "give" if len(turn.awaits) > 1 else "gives"
    return f"It waits for room: {who} {give} way to it."


def sharing(view: View) -> list[str]:
    """What it has of the machine alone, and how it shares the rest with others, where it does now."""
    return [*_gpus(view), *_turn(view)]


def _gpus(view: View) -> list[str]:
    replicas = (*view.serving, *view.coming)
    has = [", ".join(facts.gpus) for facts in replicas if facts.gpus]
    return [f"It has {'; '.join(has)}.", *(facts.crowded for facts in replicas if facts.crowded)] if has else []


def _turn(view: View) -> list[str]:
    if view.waits(view.coming or view.serving):
        return [waits_for_room(view.turn)]
    if view.ready and view.gives_way_to:
        return [_gives_way(view)]
    return [f"{view.turn.rested}."] if view.turn.rested else []


def _gives_way(view: View) -> str:
    return f"It gives way to {view.gives_way_to} once what it answers is done."


def _again(etas: Sequence[int]) -> int:
    """Seconds after which the first of those that load is ready, by what loading took before."""
    return max(1, min(MAX_RETRY_AFTER, *etas)) if etas else LOADING_RETRY


def observe(view: View, url: str, before: Sequence[Condition], now: float) -> LLMServiceStatus:
    """The status; a condition keeps its transition time while its status stays the same. `now` is Unix time."""
    order, generation = view.order, view.order.service.metadata.generation
    known, scaling = [condition.model_dump(by_alias=True) for condition in before], order.service.spec.scaling
    found = [valid(), _resolved(order), _progressing(view), *_served(view)]
    found += scaling_findings(scaling, view.scaling, known)
    adapters = adapters_of(view)
    beside = adapters_ready(adapters, "", order.replicas)
    found += [beside] if beside else []
    when = datetime.datetime.fromtimestamp(now, datetime.UTC)
    made = conditions(found, known, generation, when)
    scaled = view.scaled.model_dump(by_alias=True, exclude_none=True) if view.scaled else None
    told = scaling_status(scaling, view.scaling, scaled)
    return LLMServiceStatus(
        observed_generation=generation,
        replicas=len(view.serving),
        ready_replicas=view.ready,
        url=url,
        model=order.model or ModelStatus(resolved_revision=order.revision),
        plan=order.plan,
        load=next((facts.load for facts in view.serving if facts.load is not None), None),
        adapters=[AdapterStatus.model_validate(entry) for entry in adapters],
        scaling=ScalingStatus.model_validate(told) if told else None,
        conditions=[Condition.model_validate(condition) for condition in made],
    )


def loaded(facts: ReplicaFacts) -> frozenset[str]:
    """Names of the adapters that a replica answers for."""
    return frozenset(told.name for told in facts.adapters if told.state is AdapterState.LOADED)


def adapters_of(view: View) -> list[dict[str, Any]]:
    """status.adapters."""
    order = view.order
    told = {adapter.name: adapter for adapter in order.adapters}
    why = {name: (reason, said) for name, reason, said in order.not_loaded}
    asked = []
    for adapter in order.service.spec.adapters:
        known = told.get(adapter.name)
        reason, message = why.get(adapter.name, ("", ""))
        waits = "" if known or reason else "It is being prepared."
        uri, revision = (known.uri, known.revision or "") if known else (adapter.uri, "")
        taster = view.tried.get(adapter.name)
        says = next((facts.adapters for facts in view.serving if facts.name == taster), ())
        past = view.died.get(adapter.name)
        first = None if taster is None else [past] if past and told_of(adapter.name, uri, says) is None else says
        asked.append(AskedFor(adapter.name, uri, revision, reason, message, waits, first))
    return adapter_entries(asked, [facts.adapters for facts in view.serving if facts.ready])


def _resolved(order: Order) -> Finding:
    kind = ConditionType.MODEL_RESOLVED
    if order.failure is not None:
        return Finding(kind, FALSE, order.failure.failure, _sentence(order.failure))
    if order.settings is None:
        return Finding(kind, UNKNOWN, Reason.DOWNLOADING, "The model is being resolved and downloaded.")
    return resolved(order.revision or "", f"It is at {order.settings.model_path}.")


def _progressing(view: View) -> Finding:
    kind, why = ConditionType.PROGRESSING, why_unready(view)
    if failed := _failed_edit(view):
        return Finding(kind, FALSE, failed.failure, _sentence(failed))
    if view.waits(view.coming):
        return Finding(kind, TRUE, Reason.WAITING_FOR_ROOM, f"A changed version starts. {waits_for_room(view.turn)}")
    if view.coming:
        return Finding(kind, TRUE, Reason.ROLLING_OUT, "A changed version is starting; the old one serves.")
    if view.ready and view.gives_way_to:
        return Finding(kind, TRUE, Reason.GIVES_WAY, _gives_way(view))
    if view.ready >= view.order.replicas:
        return as_asked()
    return Finding(kind, FALSE if why.final else TRUE, why.reason, f"{why.message} {why.remedy}".strip())


def _served(view: View) -> list[Finding]:
    """Available and Ready."""
    if not view.ready:
        why = why_unready(view)
        if why.reason == Reason.IDLE:
            return idle(why.message)
        return not_served(why.reason, f"{why.message} {why.remedy}".strip())
    there, wanted = available(view.ready, view.order.replicas), view.order.replicas
    if failed := _failed_edit(view):
        return [there, serving_earlier(view.ready, wanted, failed.failure, _sentence(failed))]
    return [there, serving(view.ready, wanted)]


def _failed_edit(view: View) -> FailureRecord | None:
    """Why what serves, or is to be served again, is not what the newest manifest asks for."""
    if view.order.failure is not None and view.serving:
        return view.order.failure
    if view.waits(view.coming):
        return None
    return next((facts.failure for facts in view.coming if facts.failure is not None), None)


def _sentence(failure: FailureRecord) -> str:
    return f"{failure.message} {failure.remedy}".strip()


def _failed(failure: FailureRecord, *, final: bool, held: bool = False) -> Unready:
    return Unready(failure.failure, failure.message, failure.remedy, retry_after=10, final=final, held=held)
