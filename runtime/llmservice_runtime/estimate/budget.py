"""The memory budget of one way to run a model: line by line, per device and for the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.llamacpp.options import DEFAULTS, LlamaOptions
from llmservice_runtime.estimate import overhead
from llmservice_runtime.estimate.kv import Pool, kv_bytes, padded
from llmservice_runtime.estimate.weights import layer_weights, loaded_bytes, offloaded_bytes
from llmservice_runtime.formats.facts import LayerKind, ModelFacts
from llmservice_runtime.machine.machine import Device

GPU = "GPU"
HOST = "Host"

GPU_ENGINE_HOST_BYTES = {
    EngineType.VLLM: 4 * overhead.GIB,
    EngineType.TRANSFORMERS: 3 * overhead.GIB,
    EngineType.LLAMA_CPP: overhead.CPU_BASE[EngineType.LLAMA_CPP],
}
"""Host memory of an engine whose model is on GPUs: processes, pinned buffers."""


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """One line of the memory budget, in bytes per device; `where` is `GPU` or `Host`."""

    name: str
    bytes: int
    where: str = HOST

    @property
    def is_cache(self) -> bool:
        """Whether it grows with the tokens in flight."""
        return self.name.startswith("KV cache")


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to run a model. `gpus` share it evenly: by tensor parallelism (vLLM) or by layers (the others).

    `gpu_layers` counts llama.cpp's offloaded layers; more than the model has = everything.
    """

    engine: EngineType
    device: Device
    context_tokens: int
    sequences: int
    kv_tokens: int
    gpus: int = 0
    gpu_layers: int = 0
    options: LlamaOptions = DEFAULTS

    @property
    def whole(self) -> int:
        """Tokens of a pool that holds a whole context, in full pages, for every sequence."""
        page = 256 if self.engine is EngineType.LLAMA_CPP else 1
        return self.sequences * padded(self.context_tokens, page)

    @property
    def streams(self) -> bool:
        """Whether llama.cpp gives every sequence a cache of its own: when the pool holds a whole context for each."""
        return self.engine is EngineType.LLAMA_CPP and self.kv_tokens >= self.whole

    @property
    def slots(self) -> int:
        """Sequences that llama.cpp keeps, idle prefixes included."""
        return self.sequences if self.streams else 2 * self.sequences

    @property
    def cells(self) -> int:
        """Cells that one attention looks over."""
        return self.context_tokens if self.streams else self.kv_tokens


def budget(facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
    """Every line of the budget; GPU lines are bytes per GPU."""
    if shape.device is Device.CPU:
        return _on_cpu(facts, shape)
    if shape.engine is EngineType.LLAMA_CPP:
        return _offloaded(facts, shape)
    return _on_gpus(facts, shape)


def total(lines: Sequence[MemoryLine], where: str) -> int:
    """Sum of one place."""
    return sum(line.bytes for line in lines if line.where == where)


def pool(facts: ModelFacts, shape: Shape) -> Pool:
    """The KV cache as the engine lays it out.

    llama.cpp has cells in pages of 256; of sliding layers it keeps the window and one graph, per stream. vLLM frees
    what a window has left behind, with blocks of 16. Transformers keeps the model's own dtype and every token.
    """
    own_fp32 = shape.engine is EngineType.TRANSFORMERS and facts.quantization is None and facts.dtype == "F32"
    chunk = {
        EngineType.LLAMA_CPP: shape.options.ubatch * (shape.sequences if shape.streams else 1),
        EngineType.VLLM: 8192,
        EngineType.TRANSFORMERS: 0,
    }[shape.engine]
    return Pool(
        tokens=shape.kv_tokens,
        sequences=shape.slots if shape.engine is EngineType.LLAMA_CPP else shape.sequences,
        element=shape.options.element if shape.engine is EngineType.LLAMA_CPP else Fraction(4 if own_fp32 else 2),
        tensor_parallel=max(1, shape.gpus) if shape.engine is EngineType.VLLM else 1,
        chunk=chunk,
        full_sliding=shape.engine is EngineType.TRANSFORMERS,
        page=16 if shape.engine is EngineType.VLLM else 256,
    )


def can_share(facts: ModelFacts) -> bool:
    """Whether llama.cpp can cut and share this model's cache: recurrent and sliding layers need separate streams."""
    return not any(group.kind in (LayerKind.RECURRENT, LayerKind.SLIDING) for group in facts.layers)


def _buffers(facts: ModelFacts, shape: Shape) -> int:
    return overhead.compute_buffer(facts, shape.cells, shape.sequences, shape.slots, shape.options)


def _on_cpu(facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
    if shape.engine is EngineType.LLAMA_CPP:
        extra = overhead.CPU_BASE[shape.engine] + _buffers(facts, shape)
    else:
        extra = overhead.host_overhead(shape.engine, facts)
    return (
        MemoryLine("weights", loaded_bytes(facts, shape.engine, Device.CPU)),
        MemoryLine(_kv_name(shape), kv_bytes(facts.layers, pool(facts, shape))),
        MemoryLine("engine and its buffers", extra),
    )


def _on_gpus(facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
    weights = -(-loaded_bytes(facts, shape.engine, shape.device) // shape.gpus)
    kv = kv_bytes(facts.layers, pool(facts, shape))
    if shape.engine is not EngineType.VLLM:
        weights += max(layer_weights(facts)) if shape.gpus > 1 else 0
        kv = -(-kv // shape.gpus)
    extra = overhead.gpu_overhead(weights)
    return (
        MemoryLine("weights", weights, GPU),
        MemoryLine(_kv_name(shape), kv, GPU),
        MemoryLine("engine and its buffers", extra, GPU),
        MemoryLine("engine processes", GPU_ENGINE_HOST_BYTES[shape.engine], HOST),
    )


def _offloaded(facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
    """llama.cpp with some or all layers on GPUs: layers move with their part of the KV cache."""
    layers = max(1, facts.layer_count)
    moved = min(shape.gpu_layers, layers)
    on_gpu = offloaded_bytes(facts, shape.gpu_layers)
    kv = kv_bytes(facts.layers, pool(facts, shape))
    kv_gpu = -(-kv * moved // layers)
    uneven = max(layer_weights(facts)) + -(-kv // layers) if shape.gpus > 1 else 0
    buffers = _buffers(facts, shape)
    extra = overhead.LLAMA_GPU_BASE + buffers
    return (
        MemoryLine(f"weights of {moved} of {layers} layers", -(-on_gpu // shape.gpus) + uneven, GPU),
        MemoryLine(_kv_name(shape), -(-kv_gpu // shape.gpus), GPU),
        MemoryLine("engine and its buffers", extra, GPU),
        MemoryLine("weights", facts.weight_bytes - on_gpu, HOST),
        MemoryLine(_kv_name(shape), kv - kv_gpu, HOST),
        MemoryLine("engine and its buffers", GPU_ENGINE_HOST_BYTES[shape.engine] + buffers, HOST),
    )


def _kv_name(shape: Shape) -> str:
    return f"KV cache of {shape.kv_tokens:,} tokens"
