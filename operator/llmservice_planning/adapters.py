"""What a plan makes of a service's adapters: which its model has no use for, and which it has no room for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.adapters import judge
from llmservice_runtime.estimate.adapters import AdapterFit, AdapterRoom, AdapterVerdict, room_for
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.formats.lora_facts import LoraFacts

Adapters = Mapping[str, LoraFacts]
"""By their names, in the order of the spec."""


@dataclass(frozen=True, slots=True)
class Judged:
    """By the adapters' names. Who is in neither can be loaded."""

    refused: Mapping[str, AdapterVerdict]
    """No room helps these."""
    beyond: Mapping[str, str]
    """What the replicas of the plan lack for it: a clause about them."""


def judged(
    adapters: Adapters, model: ModelFacts, engine: EngineType, room: AdapterRoom, served: Collection[str] = ()
) -> Judged:
    """Of these, in their order: the first ones get the places that there are, those that are `served` before all."""
    refused = _refused(adapters, model, engine)
    usable = [name for name in adapters if name not in refused]
    beyond: dict[str, str] = {}
    left = room.count
    for name in sorted(usable, key=lambda name: name not in served):
        if adapters[name].rank > room.rank:
            beyond[name] = f"they have room for rank {room.rank}, and {name} has rank {adapters[name].rank}"
        elif not left:
            beyond[name] = f"they have room for {room.count} adapters, and {len(usable)} are asked for"
        else:
            left -= 1
    return Judged(refused, beyond)


def room_wanted(adapters: Adapters, model: ModelFacts, engine: EngineType) -> AdapterRoom:
    """For those that the model can have: a foreign one makes no room."""
    refused = _refused(adapters, model, engine)
    return room_for(facts.rank for name, facts in adapters.items() if name not in refused)


def why_not(verdict: AdapterVerdict) -> tuple[FailureClass, str]:
    """Reason and sentences of one that is refused."""
    return verdict.failure or FailureClass.UNSUPPORTED_FORMAT, f"{verdict.reason} {verdict.remedy}".strip()


def _refused(adapters: Adapters, model: ModelFacts, engine: EngineType) -> dict[str, AdapterVerdict]:
    verdicts = {name: judge(facts, model, engine, AdapterRoom(), 1) for name, facts in adapters.items()}
    return {name: found for name, found in verdicts.items() if found.fit is AdapterFit.REFUSED}
