"""Hugging Face Transformers to those who plan."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.caches import TORCH
from llmservice_runtime.engines.base.case import Case, preferred_for_throughput
from llmservice_runtime.engines.base.definition import EngineDefinition
from llmservice_runtime.engines.transformers.install.recipe import RECIPE
from llmservice_runtime.engines.transformers.memory import TransformersMemory
from llmservice_runtime.engines.transformers.rules import RULES, known
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device


def preference(facts: ModelFacts, device: Device) -> int:
    """On a CPU it idles in a third of the memory that engines for throughput take."""
    return 30 if preferred_for_throughput(facts, device) else 20


def reason(case: Case) -> str:
    """Why it was chosen."""
    return f"Transformers runs {case.weights} on {case.where} with continuous batching."


def memory(args: Sequence[str]) -> TransformersMemory:
    """What it takes; it has no arguments, so UserError names the first."""
    if args:
        raise UserError(
            f"engine.args: {args[0]} is not known to Transformers, which takes no arguments.",
            "Leave engine.args out; contextTokens says how long a context is.",
        )
    return TransformersMemory()


ENGINE = EngineDefinition(
    label="Transformers",
    rules=RULES,
    reason=reason,
    preference=preference,
    memory=memory,
    config_classes=lambda: known().configs,
    caches=TORCH,
    devices=frozenset({Device.CPU, Device.NVIDIA}),
    recipe=RECIPE,
)
