"""What engines on PyTorch have in common: a process with its device context, fused weights, buffers of one pass.

Sources: KAITO's memory estimator for vLLM (2.3 GiB and 5 % of the weights per GPU, measured as 1.7 GiB of activations
and 0.6 GiB outside PyTorch).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from llmservice_runtime.estimate.adapters import adapter_bytes
from llmservice_runtime.estimate.budget import (
    GPU,
    HOST,
    RESERVE,
    EngineMemory,
    MemoryLine,
    Shape,
    adapter_line,
    cache_lines,
)
from llmservice_runtime.estimate.kv import Pool, kv_bytes, states_bytes
from llmservice_runtime.estimate.overhead import GIB, activations
from llmservice_runtime.estimate.weights import layer_weights, linear_share
from llmservice_runtime.formats.facts import LayerGroup, ModelFacts
from llmservice_runtime.machine.machine import Device

ALIGNMENT = 1.02
"""Loaded over stored size: padding of shards and fused tensors (KAITO's measured factor)."""

GPU_BASE = int(2.3 * GIB)
GPU_SHARE_OF_WEIGHTS = 0.05

LOGIT_ROWS = 64


class TorchMemory(EngineMemory):
    """An engine on PyTorch: what differs is below."""

    cpu_base: ClassVar[int]
    """Bytes of supervisor and engine processes before any weight is read."""
    cpu_step: int = 512
    """Tokens of one pass there that activations are counted for."""
    cpu_spare: ClassVar[int]
    """Bytes kept free beside it: what PyTorch's allocator keeps, larger steps, grammars."""
    gpu_host: ClassVar[int]
    """Host memory when the model is on GPUs: processes, pinned buffers."""

    @abstractmethod
    def stored(self, facts: ModelFacts, device: Device) -> int:
        """Bytes of the weights in the type they are loaded as."""

    @abstractmethod
    def plain(self, facts: ModelFacts, device: Device) -> int:
        """The same of weights that are not quantized, before any is made smaller while it is loaded."""

    def widths(self, facts: ModelFacts, device: Device) -> tuple[float, float]:
        """What is made smaller, or unpacked, is in layers; another type is everything's."""
        layers, stored = max(1.0, facts.weight_bytes * linear_share(facts)), self.stored(facts, device)
        output = 1.0 if facts.quantization else self.plain(facts, device) / max(1, facts.weight_bytes)
        return max(0.0, stored - (facts.weight_bytes - layers) * output) / layers, output

    @abstractmethod
    def pool(self, facts: ModelFacts, shape: Shape) -> Pool:
        """The KV cache as the engine lays it out."""

    def repeated(self, facts: ModelFacts, device: Device) -> int:
        """Bytes of weights that are kept in a second layout beside the first."""
        return 0

    def unpacked(self, facts: ModelFacts) -> int:
        """Bytes of what is computed with on a CPU in place of weights that are smaller."""
        return 0

    def adapters(self, facts: ModelFacts, device: Device) -> int:
        """Bytes of LoRA adapters, in the type that is computed with, from above."""
        return adapter_bytes(facts, self.room, 4 if device is Device.CPU else 2)

    def layers(self, facts: ModelFacts, device: Device) -> tuple[LayerGroup, ...]:
        """Layers that something is kept for."""
        return facts.layers

    def _pooled_lines(self, facts: ModelFacts, shape: Shape, weights: int) -> tuple[MemoryLine, ...]:
        """Nothing is kept from one step to the next."""
        step = activations(facts, max(self.cpu_step, shape.context_tokens))
        if shape.device is Device.CPU:
            stored = self.stored(facts, shape.device)
            engine = MemoryLine("engine and its buffers", self.cpu_base + step)
            return (MemoryLine("weights", stored), engine, MemoryLine(RESERVE, self.cpu_spare))
        weights = -(-weights // shape.gpus) + (max(layer_weights(facts)) if shape.gpus > 1 else 0)
        return (
            MemoryLine("weights", weights, GPU),
            MemoryLine("engine and its buffers", GPU_BASE + int(weights * GPU_SHARE_OF_WEIGHTS) + step, GPU),
            MemoryLine("engine processes", self.gpu_host, HOST),
        )

    def lines(self, facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
        weights = int(self.stored(facts, shape.device) * ALIGNMENT)
        if facts.pools:
            return self._pooled_lines(facts, shape, weights)
        layers, pool = self.layers(facts, shape.device), self.pool(facts, shape)
        kv, states = kv_bytes(layers, pool), states_bytes(layers, pool)
        if shape.device is Device.CPU:
            step = 4 * facts.vocab_size * LOGIT_ROWS + activations(facts, self.cpu_step) + self.unpacked(facts)
            return (
                MemoryLine("weights", self.stored(facts, shape.device) + self.repeated(facts, shape.device)),
                *adapter_line(self.adapters(facts, shape.device)),
                *cache_lines(shape, kv, states),
                MemoryLine("engine and its buffers", self.cpu_base + step),
                MemoryLine(RESERVE, self.cpu_spare),
            )
        weights = -(-weights // shape.gpus) + (max(layer_weights(facts)) if shape.gpus > 1 else 0)
        kv, states = -(-kv // shape.gpus), -(-states // shape.gpus)
        return (
            MemoryLine("weights", weights, GPU),
            *adapter_line(self.adapters(facts, shape.device), GPU),
            *cache_lines(shape, kv, states, GPU),
            MemoryLine("engine and its buffers", GPU_BASE + int(weights * GPU_SHARE_OF_WEIGHTS), GPU),
            MemoryLine("engine processes", self.gpu_host, HOST),
        )
