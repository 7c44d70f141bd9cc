"""How GPUs can share a model in vLLM: what its layers divide, and which models it runs as a pipeline.

Read in its linear.py (heads; KV heads divided or copied), vocab_parallel_embedding.py (padded to 64), and what its
methods of quantization check: a GPU's part of a layer's input is whole groups or blocks. Blocks of experts are refined
to 32 (fused_moe/oracle/fp8.py), and groups of 4-bit experts are halved down to 32 (moe_wna16.py); those of
compressed-tensors stay whole, and whole blocks of each GPU's keys come out of an attention (fp8_utils.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import Layout
from llmservice_runtime.formats.facts import LayerKind, ModelFacts, Quantization, WidthKind

VOCABULARY_STEP = 64
FINEST = 32
"""The smallest group or block that experts are refined to."""
REFINED = frozenset({"fp8", "awq", "gptq", "moe-wna16", "quark"})
"""Methods whose experts may have finer groups than their checkpoints."""
GROUPS = {"modelopt-fp4": 16, "mxfp8": 32, "FP8_PB_WO": 128}
"""Groups of methods and algorithms whose checkpoints need not state them."""
W4A8_EXPERTS = 256
"""What the kernels for experts of 4-bit weights and FP8 activations go by (compressed_tensors_moe_w4a8_fp8.py)."""
EXPERTS_ALONE = frozenset({"mxfp4"})
"""Methods that only experts have, padded to whole groups on every GPU."""
TRANSFORMERS = "TransformersForCausalLM"
"""What runs the architectures that vLLM has no code of its own for."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What the user's arguments change of it: whole experts on each GPU, what sees and hears on every one."""

    whole_experts: bool = False
    whole_towers: bool = False


def layouts(facts: ModelFacts, gpus: int, sharing: Sharing) -> tuple[Layout, ...]:
    """Ways for so many GPUs, from the shortest pipeline on."""
    ways = (Layout(gpus // stages, stages) for stages in range(1, gpus + 1) if gpus % stages == 0)
    return tuple(way for way in ways if not objection(facts, way, sharing))


def objection(facts: ModelFacts, layout: Layout, sharing: Sharing) -> str:
    """Why vLLM can't share it like that, as the end of a sentence; empty = it can."""
    if layout.pipeline > 1 and not is_pipelined(facts.architecture):
        return f"vLLM does not run {facts.architecture or 'this architecture'} as a pipeline"
    if layout.pipeline > max(1, facts.layer_count):
        return f"a pipeline of {layout.pipeline} needs as many layers, and the model has {facts.layer_count}"
    return next(_objections(facts, layout, sharing), "")


def is_pipelined(architecture: str) -> bool:
    """Whether its layers can be on different GPUs."""
    return is_among(architecture, known().pipelined)


def is_among(architecture: str, able: Collection[str]) -> bool:
    """Whether it is one of these, or runs by Transformers' code, which is."""
    told = known()
    borrowed = architecture in told.by_transformers and architecture not in told.architectures
    return architecture in able or (borrowed and TRANSFORMERS in able)


def _objections(facts: ModelFacts, layout: Layout, sharing: Sharing) -> Iterator[str]:
    parts = layout.tensor
    among = f"can't be divided among {parts} GPUs"
    if facts.attention_heads % parts:
        yield f"{facts.attention_heads} attention heads {among}"
    block = _block(facts.quantization)
    for heads, dim in sorted({(g.kv_heads, g.k_dim) for g in facts.layers if g.kind is not LayerKind.MLA}):
        if heads and heads % parts and parts % heads:
            yield f"{heads} KV heads {among}, nor copied evenly to them"
        if parts > 1 and (keys := max(1, heads // parts) * dim) % block:
            yield f"each of {parts} GPUs would have {keys} channels of keys, not whole blocks of {block}"
    padded = -(-facts.vocab_size // VOCABULARY_STEP) * VOCABULARY_STEP
    if padded % parts:
        yield f"the vocabulary, {padded} with its padding, {among}"
    if 0 < facts.mixture_experts < parts and not sharing.whole_experts:
        yield f"{facts.mixture_experts} experts are fewer than {parts} GPUs"
    for width in facts.widths:
        pieces = parts * layout.copies if width.kind is WidthKind.EXPERT else parts
        whole = sharing.whole_experts if width.kind is WidthKind.EXPERT else sharing.whole_towers
        if pieces == 1 or (width.kind in (WidthKind.EXPERT, WidthKind.TOWER) and whole):
            continue
        if width.kind is WidthKind.GROUPS and width.size == 1:
            continue
        unit = unit_of(facts.quantization, width.kind)
        if width.size % (pieces * unit):
            steps = f", in steps of {unit} ({facts.quantization.name})," if unit > 1 and facts.quantization else ""
            yield f"{width.name} {width.size}{steps} can't be divided among {pieces} GPUs"


def _block(quantization: Quantization | None) -> int:
    """The side of compressed-tensors' blocks of 8-bit floats; with vLLM's own FP8 a GPU's heads may end within one."""
    if quantization is None or quantization.method != "compressed-tensors" or quantization.name != "FP8":
        return 1
    return quantization.group_size or 1


def unit_of(quantization: Quantization | None, kind: WidthKind) -> int:
    """What a GPU's part of a width must be a multiple of."""
    if quantization is None or kind not in (WidthKind.ATTENTION, WidthKind.DENSE, WidthKind.EXPERT):
        return 1
    method = quantization.method.lower().replace("_", "-")
    group = quantization.group_size or GROUPS.get(method) or GROUPS.get(quantization.scheme or "", 1)
    if group <= 1 or method in EXPERTS_ALONE:
        return 1
    if kind is WidthKind.EXPERT and quantization.name == "W4A8-FP8":
        return W4A8_EXPERTS
    if kind is WidthKind.EXPERT and method in REFINED:
        return math.gcd(group, FINEST)
    return group
