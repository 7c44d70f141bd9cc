"""Whether an adapter serves with a model on an engine: the arithmetic of rooms, with what the engine says of itself."""

from __future__ import annotations

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.estimate.adapters import AdapterRoom, AdapterVerdict, Takes, weigh
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.formats.lora_facts import LoraFacts


def judge(adapter: LoraFacts, model: ModelFacts, engine: EngineType, room: AdapterRoom, count: int) -> AdapterVerdict:
    """Whether this adapter serves with this model on this engine, as one of `count` that are wanted. Pure."""
    asked = definition(engine)
    takes = Takes(asked.label, asked.adapter_formats, asked.adapter_objection(adapter, model))
    return weigh(adapter, model, takes, room, count)
