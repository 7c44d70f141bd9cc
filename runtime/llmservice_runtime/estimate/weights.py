"""Memory of the weights, from exact tensor bytes."""

from __future__ import annotations

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device

ALIGNMENT = 1.02
"""Loaded over stored size: padding of shards and fused tensors (KAITO's measured factor)."""


def loaded_bytes(facts: ModelFacts, engine: EngineType, device: Device) -> int:
    """Bytes of all weights once loaded, over all devices together.

    llama.cpp maps tensors as they are stored. vLLM turns fp32 checkpoints into 16 bits; Transformers keeps fp32, and
    unpacks MXFP4 on a CPU.
    """
    if engine is EngineType.LLAMA_CPP:
        return facts.weight_bytes
    stored = facts.weight_bytes
    if facts.quantization is None and facts.dtype == "F32" and engine is EngineType.VLLM:
        stored = -(-stored // 2)
    if (
        engine is EngineType.TRANSFORMERS
        and device is Device.CPU
        and facts.quantization is not None
        and facts.quantization.method == "mxfp4"
    ):
        stored = max(stored, facts.parameters * 2)
    return int(stored * ALIGNMENT)


def offloaded_bytes(facts: ModelFacts, layers_on_gpu: int) -> int:
    """Bytes of the weights that llama.cpp keeps on GPUs with `layers_on_gpu`: the last ones first, beyond all layers
    the output matrix and what belongs to no layer."""
    layers = layer_weights(facts)
    if layers_on_gpu > len(layers):
        return facts.weight_bytes
    return sum(layers[len(layers) - layers_on_gpu :])


def layer_weights(facts: ModelFacts) -> tuple[int, ...]:
    """Bytes per layer; an even split where tensor names do not tell."""
    if facts.layer_weight_bytes:
        return facts.layer_weight_bytes
    count = max(1, facts.layer_count)
    return (-(-facts.weight_bytes // count),) * count
