"""When llama.cpp runs a model: it reads GGUF and nothing else, on every device, of the architectures it told."""

from __future__ import annotations

from pathlib import Path

from llmservice_runtime.engines.base.capabilities import Capabilities, capabilities
from llmservice_runtime.engines.base.case import Case, Rule, is_gguf

ENCODERS = frozenset({"dflash", "eagle3", "t5", "t5encoder"})
DIFFUSION = frozenset({"dream", "llada", "llada-moe", "rnd1"})
"""Architectures that the library says it doesn't write from left to right: a test asks it of each that it knows."""


def known() -> Capabilities:
    """What the built library told of itself."""
    return capabilities(Path(__file__).parent)


def not_gguf(case: Case) -> str | None:
    """Other formats must be converted first."""
    if not is_gguf(case):
        would = "would not run either" if not_from_left_to_right(case) else "would run"
        return f"llama.cpp reads GGUF only, and this model is {case.facts.format}; a GGUF of the same model {would}."
    return None


def unknown_architecture(case: Case) -> str | None:
    """Architectures that the library can't load."""
    name, told = case.architecture, known()
    if not name or told.runs(name):
        return None
    version = f"llama-cpp-python {told.versions['llama-cpp-python']}"
    return f"llama.cpp ({version}) does not know the architecture {name}{told.spelled(name)}."


def not_from_left_to_right(case: Case) -> bool:
    """Whether the model, in whatever format, has an encoder or is a diffusion model."""
    kind = case.facts.model_type.lower().replace("_", "-")
    return case.facts.encoder or kind in ENCODERS | DIFFUSION


def other_ways(case: Case) -> str | None:
    """What the runtime refuses after loading it."""
    name = case.architecture
    if not is_gguf(case) or name not in ENCODERS | DIFFUSION:
        return None
    kind = "has an encoder" if name in ENCODERS else "is a diffusion model"
    return f"{name} {kind}; llama.cpp runs decoders alone here."


RULES: tuple[Rule, ...] = (not_gguf, unknown_architecture, other_ways)
