"""What Transformers takes: weights as they are stored, every token of every layer."""

from __future__ import annotations

from fractions import Fraction

from llmservice_runtime.engines.base.torch_memory import TorchMemory
from llmservice_runtime.engines.transformers.arguments import SMALL_WEIGHTS
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.estimate.kv import Pool
from llmservice_runtime.estimate.overhead import GIB, MIB
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""


class TransformersMemory(TorchMemory):
    """Transformers with continuous batching; GPUs have layers each."""

    max_sequences = 32
    cpu_base = 1536 * MIB
    gpu_host = 3 * GIB

    def __init__(self, dtype: str = "auto") -> None:
        """`dtype`: of weights and of keys and values; auto = as they are stored."""
        self._dtype = dtype

    def stored(self, facts: ModelFacts, device: Device) -> int:
        """fp32 stays fp32; MXFP4 is unpacked on a CPU."""
        if device is Device.CPU and facts.quantization is not None and facts.quantization.method == "mxfp4":
            return max(facts.weight_bytes, facts.parameters * 2)
        dtype = self._computed(facts, device)
        if dtype == "auto" or facts.quantization is not None:
            return facts.weight_bytes
        return facts.parameters * WIDTHS[dtype]

    def _computed(self, facts: ModelFacts, device: Device) -> str:
        small = device is Device.CPU and facts.quantization is None and facts.weight_bytes <= SMALL_WEIGHTS
        return "float32" if small and self._dtype == "auto" else self._dtype

    def pool(self, facts: ModelFacts, shape: Shape) -> Pool:
        """The model's own type; sliding layers keep every token."""
        own_fp32 = facts.quantization is None and facts.dtype == "F32"
        dtype = self._computed(facts, shape.device)
        element = (4 if own_fp32 else 2) if dtype == "auto" else WIDTHS[dtype]
        return Pool(
            tokens=shape.kv_tokens,
            sequences=shape.sequences,
            element=Fraction(element),
            chunk=0,
            full_sliding=True,
        )
