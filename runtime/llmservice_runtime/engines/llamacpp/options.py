"""Engine arguments of llama.cpp that change how much memory it takes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from llmservice_runtime.engines.llamacpp.arguments import EngineArgs
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


def llama_options(args: EngineArgs) -> LlamaOptions:
    """What of `spec.engine.args` counts here: --kv-type, --ubatch-size, --kv-layout."""
    return LlamaOptions(KV_TYPES[args.kv_type], args.ubatch_size, args.kv_layout == "split")
