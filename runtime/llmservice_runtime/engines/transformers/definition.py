"""Hugging Face Transformers to those who plan."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.settings import OF_SOME_ENGINES
from llmservice_runtime.engines.base.caches import TORCH
from llmservice_runtime.engines.base.case import Case, preferred_for_throughput
from llmservice_runtime.engines.base.definition import EngineDefinition
from llmservice_runtime.engines.transformers.arguments import parse_args, words
from llmservice_runtime.engines.transformers.install.recipe import RECIPE
from llmservice_runtime.engines.transformers.memory import TransformersMemory, unpacks
from llmservice_runtime.engines.transformers.rules import MADE, RULES, known
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device


def preference(facts: ModelFacts, device: Device) -> int:
    """On a CPU it idles in a third of the memory that engines for throughput take."""
    return 30 if preferred_for_throughput(facts, device) else 20


def reason(case: Case) -> str:
    """Why it was chosen."""
    if case.facts.pools:
        return f"Transformers runs {case.weights} on {case.where}, texts of all requests together."
    return f"Transformers runs {case.weights} on {case.where} with continuous batching."


def notes(case: Case) -> tuple[str, ...]:
    """What running it there changes."""
    if unpacks(case.facts):
        return (
            "Transformers unpacks compressed-tensors weights to 16 bits with the first answer; they are counted so.",
        )
    return ()


def memory(args: Sequence[str]) -> TransformersMemory:
    """What it takes with the user's arguments; UserError names the one that it would refuse."""
    return TransformersMemory(parse_args(args).dtype)


def arguments(case: Case, shape: Shape, args: Sequence[str]) -> tuple[str, ...]:
    """The user's, each once."""
    return words(args)


ENGINE = EngineDefinition(
    label="Transformers",
    rules=RULES,
    reason=reason,
    notes=notes,
    preference=preference,
    memory=memory,
    arguments=arguments,
    conversions=frozenset(MADE),
    config_classes=lambda: known().configs,
    own_settings=frozenset(OF_SOME_ENGINES),
    caches=TORCH,
    gguf=False,
    pools=True,
    devices=frozenset({Device.CPU, Device.NVIDIA}),
    recipe=RECIPE,
    last_words=(
        (FailureClass.ENGINE_NOT_INSTALLED, r"no module named '?(torch|transformers|tokenizers|llguidance)\b"),
    ),
)
