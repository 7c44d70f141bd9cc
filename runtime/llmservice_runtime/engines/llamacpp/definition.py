"""llama.cpp to those who plan, install and supervise."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.case import TAKES_PICTURES, Case
from llmservice_runtime.engines.base.definition import EngineDefinition
from llmservice_runtime.engines.llamacpp.arguments import parse_args, words
from llmservice_runtime.engines.llamacpp.install.recipe import RECIPE
from llmservice_runtime.engines.llamacpp.memory import LlamaMemory
from llmservice_runtime.engines.llamacpp.options import llama_options
from llmservice_runtime.engines.llamacpp.rules import RULES, not_from_left_to_right
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.formats.lora_facts import LoraFormat
from llmservice_runtime.machine.machine import Device


def preference(facts: ModelFacts, device: Device) -> int:
    """First: it reads GGUF alone, and nothing reads GGUF better."""
    return 10


def reason(case: Case) -> str:
    """Why it was chosen."""
    return f"The model is a GGUF ({case.weights}), which llama.cpp runs as it is, on {case.where}."


def memory(args: Sequence[str]) -> LlamaMemory:
    """What it takes with the user's arguments; UserError names the one that it would refuse."""
    return LlamaMemory(llama_options(parse_args(args)))


def arguments(case: Case, shape: Shape, args: Sequence[str]) -> tuple[str, ...]:
    """What sees pictures; on GPUs how many layers they get, -1 = all; then the user's, each once."""
    planned = [f"--mmproj={beside}"] if (beside := _projector(case.facts, args)) else []
    if case.gpu is not None:
        everything = shape.gpu_layers > case.facts.layer_count
        planned.append(f"--gpu-layers={-1 if everything else shape.gpu_layers}")
    return (*planned, *words(args))


def _projector(facts: ModelFacts, args: Sequence[str]) -> str:
    """The file that sees pictures, from the model's folder on; empty = none, or none is wanted."""
    if facts.vision is None or parse_args(args).no_mmproj:
        return ""
    return posixpath.relpath(facts.vision.file, posixpath.dirname(facts.files[0]) or ".")


def notes(case: Case) -> tuple[str, ...]:
    """What it sees by."""
    vision = case.facts.vision
    if vision is None or not vision.file:
        return ()
    return (f"{TAKES_PICTURES}: {vision.file} sees them (engine.args: [--no-mmproj] leaves it out).",)


def way_out(case: Case) -> str:
    """A GGUF, where that would run."""
    if not_from_left_to_right(case):
        return ""
    return "Use a GGUF of the same model (hubs list them as <name>-GGUF): llama.cpp runs it on every machine."


ENGINE = EngineDefinition(
    label="llama.cpp",
    rules=RULES,
    reason=reason,
    preference=preference,
    memory=memory,
    arguments=arguments,
    gguf=True,
    pools=True,
    adapter_formats=frozenset(LoraFormat),
    devices=frozenset({Device.CPU}),  # built from source for the CPU alone
    recipe=RECIPE,
    way_out=way_out,
    notes=notes,
    small_cache="--kv-type=q8_0",
    last_words=((FailureClass.ENGINE_NOT_INSTALLED, r"no module named '?llama_cpp|failed to load shared library"),),
)
