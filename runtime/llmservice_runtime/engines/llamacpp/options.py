"""Engine arguments of llama.cpp that change how much memory it takes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from llmservice_runtime.engines.llamacpp.arguments import IMAGE_TOKENS, EngineArgs
from llmservice_runtime.estimate.kv import F16

Q8_0 = Fraction(34, 32)
Q4_0 = Fraction(18, 32)
KV_BYTES = {
    "f32": Fraction(4), "f16": F16, "bf16": F16, "q8_0": Q8_0, "q4_0": Q4_0, "q4_1": Fraction(20, 32),
    "iq4_nl": Q4_0, "q5_0": Fraction(22, 32), "q5_1": Fraction(24, 32),
}  # fmt: skip
"""Bytes per element of the cache types, block scales included."""


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """Cache element in bytes, tokens of one graph, whether every sequence must have a stream of its own, whether
    attention keeps its scores, whether positions are stretched, and the most tokens of a picture (0 = none is seen)."""

    element: Fraction = F16
    ubatch: int = 512
    split: bool = False
    scores: bool = False
    stretched: bool = False
    image_tokens: int = IMAGE_TOKENS


def llama_options(args: EngineArgs) -> LlamaOptions:
    """What of `spec.engine.args` counts here: the cache's type and layout, sizes of batches, flash attention, RoPE."""
    return LlamaOptions(
        element=KV_BYTES[args.kv_type],
        ubatch=min(args.ubatch_size, args.batch_size),
        split=args.kv_layout == "split",
        scores=args.flash_attn == "off",
        stretched=args.rope_scaling in ("linear", "yarn") or 0 < args.rope_freq_scale < 1 or args.rope_freq_base > 0,
        image_tokens=0 if args.no_mmproj else args.image_max_tokens,
    )
