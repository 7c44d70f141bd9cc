"""Engine arguments of llama.cpp that change how much memory it takes. The engine checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from llmservice_runtime.estimate.kv import F16, KV_TYPES

PROMPT_ROWS = 64
"""Rows of logits the engine keeps for prompts, beside one per sequence."""


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """Cache element in bytes, tokens of one graph, and whether every sequence must have a stream of its own."""

    element: Fraction = F16
    ubatch: int = 512
    split: bool = False


DEFAULTS = LlamaOptions()


def llama_options(args: Sequence[str]) -> LlamaOptions:
    """From `spec.engine.args`: --kv-type, --ubatch-size, --kv-layout; `--name value` and `--name=value`."""
    given: dict[str, str] = {}
    words = [word for arg in args for word in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    for name, value in zip(words, [*words[1:], ""], strict=False):
        given.setdefault(name, value)
    ubatch = given.get("--ubatch-size", "")
    return LlamaOptions(
        element=KV_TYPES.get(given.get("--kv-type", ""), F16),
        ubatch=int(ubatch) if ubatch.isdigit() else DEFAULTS.ubatch,
        split=given.get("--kv-layout") == "split",
    )
