"""A service whose replicas follow demand, as the cluster has it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from llmservice_api.labels import SETTINGS
from llmservice_api.scaling import ScalingSpec
from llmservice_operator.demand.gateways import Asked
from llmservice_operator.demand.replicas import Replica, Work, kv_used, replica, requests
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.live import live_of
from llmservice_operator.facts.passed_on import owner_of
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.service import read_service
from llmservice_scaling.asked import rules
from llmservice_scaling.rules import Capacity, Rules
from llmservice_scaling.signals import Reading, Signals

Json = dict[str, Any]
_USUAL = {"max_sequences": 16, "kv_tokens": 0}
"""What RuntimeSettings have where nothing is said."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """`replicas` is what spec.replicas asks for, `version` the object's that said so."""

    name: str
    """Full name."""
    uid: str
    version: int
    replicas: int
    scaling: ScalingSpec
    rules: Rules
    max_sequences: int
    """Of one replica of the plan in force, as `kv_tokens`."""
    kv_tokens: int
    prompt_speed: float
    """Tokens per second that one replica of it measured when it was loaded, of a prompt; 0 = not measured."""
    answer_speed: float
    """The same of all answers together."""
    load_seconds: float
    """From its engine's start until it was ready; 0 = not measured."""
    pods: tuple[Replica, ...]

    @property
    def ready(self) -> tuple[Replica, ...]:
        """Those that can be asked what they do."""
        return tuple(one for one in self.pods if one.ready)

    def signals(self, replicas: int, asked: Asked, told: dict[str, Work], now: float) -> Signals:
        """Everything that is told of the service. `replicas` is what was asked for last."""
        gone = sum(one.ready or one.failed for one in self.pods)
        return Signals(
            replicas=replicas,
            starting=max(0, replicas - gone),
            held=asked.held,
            in_flight=asked.in_flight,
            engine_requests=requests(self.pods, told, now),
            waiting_tokens=asked.waiting_tokens,
            prompt_rate=asked.prompt_rate,
            request_rate=asked.request_rate,
            answer_rate=asked.answer_rate,
            mean_requests=asked.mean_requests,
            kv_used=kv_used(self.pods, told),
        )

    def capacity(self, asked: Asked) -> Capacity:
        """Of one replica, by its plan and by what requests take now."""
        return Capacity.planned(
            self.max_sequences,
            self.kv_tokens,
            asked.in_flight_tokens.value or 0.0,
            asked.in_flight.value or 0.0,
            self.prompt_speed,
            self.answer_speed,
            self.load_seconds,
            asked.answer_tokens,
        )


def without_gateway(now: float) -> Asked:
    """What is asked where no gateway is installed: engines alone know."""
    nothing = Reading(0.0, now)
    return Asked(nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing)


def managed(service: Json) -> bool:
    """Whether it is worth a closer look, by the spec as it stands."""
    scaling = service.get("spec", {}).get("scaling")
    return isinstance(scaling, dict) and scaling.get("mode", "Managed") == "Managed"


def scaled(service: Json, children: Sequence[Json], config: OperatorConfig) -> Scaled | None:
    """None while there is nothing to scale: no plan in force, a spec that can't be acted upon, another's service."""
    metadata, status = service["metadata"], service.get("status", {})
    if "deletionTimestamp" in metadata or status.get("installation") != config.operator_namespace:
        return None
    read = read_service(service, config)
    if isinstance(read, Problem):
        return None
    scaling = read.service.spec.scaling
    live = live_of(owner_of(service, config), children)
    if scaling is None or not scaling.managed or live.deployment is None:
        return None
    max_sequences, kv_tokens = _planned(live.deployment["spec"].get("template", {}).get("metadata", {}))
    return Scaled(
        name=read.service.full_name,
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        replicas=read.service.spec.replicas,
        scaling=scaling,
        rules=rules(scaling),
        max_sequences=max_sequences,
        kv_tokens=kv_tokens,
        prompt_speed=_measured(status, "promptTokensPerSecond"),
        answer_speed=_measured(status, "togetherTokensPerSecond"),
        load_seconds=_measured(status, "milliseconds") / 1000,
        pods=tuple(map(replica, live.replicas)),
    )


def _measured(status: Json, name: str) -> float:
    """A number of the load in status, which is of the plan in force; 0 = it has none."""
    number = (status.get("load") or {}).get(name)
    return float(number) if isinstance(number, int) and number > 0 else 0.0


def _planned(template: Json) -> tuple[int, int]:
    """(sequences, KV tokens) of a replica. The settings may be of another release: nothing else of them is read."""
    try:
        found = from_json((template.get("annotations") or {}).get(SETTINGS, ""))
        numbers = tuple(int(found.get(name, usual)) for name, usual in _USUAL.items())
    except (ValueError, TypeError, AttributeError):
        numbers = tuple(_USUAL.values())
    return max(1, numbers[0]), max(0, numbers[1])
