"""From what is wanted and what runs to a status with conditions, and to the sentence a client gets. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.v1alpha1 import Condition, LLMServiceStatus, ModelStatus
from llmservice_cli.local.order import Order
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.routing import Unready
from llmservice_runtime.contract.failure import FailureRecord


@dataclass(frozen=True, slots=True)
class View:
    """One service at one moment. `coming` are the replicas of a changed order that do not serve yet."""

    order: Order
    serving: tuple[ReplicaFacts, ...] = ()
    coming: tuple[ReplicaFacts, ...] = ()
    stopping: bool = False

    @property
    def ready(self) -> int:
        """Replicas that take requests."""
        return sum(facts.ready for facts in self.serving)


def why_unready(view: View) -> Unready:
    """Why no replica is ready (what a client is told with a 503)."""
    if view.stopping:
        return Unready(Reason.DRAINING, "The service is being stopped.", retry_after=5)
    if view.order.failure is not None and not view.serving:
        return _failed(view.order.failure, final=True)
    for facts in view.serving:
        if facts.gave_up and facts.failure is not None:
            return _failed(facts.failure, final=True)
    for facts in view.serving:
        if facts.failure is not None and not facts.ready:
            return _failed(facts.failure, final=False)
    if view.order.settings is not None and not view.order.replicas:
        scale = f"llmservice scale {view.order.service.full_name} --replicas 1"
        return Unready(Reason.STOPPED, "spec.replicas is 0.", f"Start it: {scale}", final=True)
    if not view.serving:
        return Unready(Reason.DOWNLOADING, "The model is being prepared; `llmservice up` shows the progress.")
    if any(facts.draining for facts in view.serving):
        return Unready(Reason.DRAINING, "The replica is shutting down.", retry_after=5)
    first = view.serving[0]
    percent = "" if first.percent is None else f" {first.percent} %"
    return Unready(Reason.LOADING, f"The model is being loaded ({first.phase}{percent}).", retry_after=5)


def observe(view: View, url: str, before: Sequence[Condition], now: float) -> LLMServiceStatus:
    """The status; a condition keeps its transition time while its status stays the same. `now` is Unix time."""
    order, why = view.order, why_unready(view)
    text = f"{why.message} {why.remedy}".strip()
    generation = order.service.metadata.generation
    good = view.ready > 0
    serves = f"{view.ready} of {order.replicas} replicas are ready."
    found: list[tuple[ConditionType, str, str, str]] = [
        (ConditionType.SPEC_VALID, "True", Reason.VALID, "The manifest is valid."),
        _resolved(order),
        (ConditionType.AVAILABLE, _truth(good), Reason.READY if good else why.reason, serves if good else text),
        _progressing(view, why),
        (ConditionType.READY, _truth(good), Reason.READY if good else why.reason, serves if good else text),
    ]
    return LLMServiceStatus(
        observed_generation=generation,
        replicas=len(view.serving),
        ready_replicas=view.ready,
        url=url,
        model=ModelStatus(resolved_revision=order.revision),
        plan=order.plan,
        conditions=[_condition(item, generation, before, now) for item in found],
    )


def _resolved(order: Order) -> tuple[ConditionType, str, str, str]:
    if order.failure is not None:
        message = f"{order.failure.message} {order.failure.remedy}".strip()
        return ConditionType.MODEL_RESOLVED, "False", order.failure.failure, message
    if order.settings is None:
        return (
            ConditionType.MODEL_RESOLVED,
            "Unknown",
            Reason.DOWNLOADING,
            "The model is being resolved and downloaded.",
        )
    return ConditionType.MODEL_RESOLVED, "True", Reason.RESOLVED, f"The model is at {order.settings.model_path}."


def _progressing(view: View, why: Unready) -> tuple[ConditionType, str, str, str]:
    if view.order.failure is not None and view.serving:
        message = f"The old version serves; the new one failed: {view.order.failure.message}"
        return ConditionType.PROGRESSING, "False", view.order.failure.failure, message
    broken = next((facts.failure for facts in view.coming if facts.failure is not None), None)
    if broken is not None:
        message = f"The old version serves; the new one failed: {broken.message} {broken.remedy}"
        return ConditionType.PROGRESSING, "False", broken.failure, message
    if view.coming:
        return ConditionType.PROGRESSING, "True", Reason.LOADING, "A changed version is starting; the old one serves."
    if view.ready >= view.order.replicas:
        return ConditionType.PROGRESSING, "False", Reason.READY, "Everything that was asked for runs."
    return ConditionType.PROGRESSING, _truth(not why.final), why.reason, why.message


def _condition(
    item: tuple[ConditionType, str, str, str], generation: int, before: Sequence[Condition], now: float
) -> Condition:
    kind, status, reason, message = item
    old = next((condition for condition in before if condition.type == kind), None)
    same = old is not None and old.status == status
    when = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Condition.model_validate(
        {
            "type": str(kind),
            "status": status,
            "reason": str(reason),
            "message": message,
            "last_transition_time": old.last_transition_time if same and old else when,
            "observed_generation": generation,
        }
    )


def _failed(failure: FailureRecord, *, final: bool) -> Unready:
    return Unready(failure.failure, failure.message, failure.remedy, retry_after=10, final=final)


def _truth(value: bool) -> str:
    return "True" if value else "False"
