"""What Transformers takes: weights as they are stored, every token of every layer."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from llmservice_runtime.engines.base.torch_memory import TorchMemory
from llmservice_runtime.engines.transformers.arguments import SMALL_WEIGHTS
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.estimate.kv import Pool
from llmservice_runtime.estimate.overhead import GIB, MIB, feed_forward
from llmservice_runtime.estimate.weights import expert_share, linear_share
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""


CONVERTED: Mapping[str, Fraction] = {
    "BitsAndBytesInt8": Fraction(1),
    "BitsAndBytesNF4": Fraction(1, 2) + Fraction(4, 64),
    "FP8": Fraction(1) + Fraction(4, 128 * 128),
}
"""Bytes of a weight that is made smaller while it is loaded. NF4 keeps a 32-bit scale for 64 weights, FP8 one for a
block of 128 x 128, int8 one for a row (functional.py of bitsandbytes, FineGrainedFP8Config)."""


BITSANDBYTES = 96 * MIB
STACKED = frozenset({"BitsAndBytesInt8", "BitsAndBytesNF4"})
"""Conversions that leave experts as they are."""


def unpacks(facts: ModelFacts) -> bool:
    """Whether the first answer unpacks the weights to 16 bits (quantizer_compressed_tensors.py)."""
    return facts.quantization is not None and facts.quantization.method.replace("_", "-") == "compressed-tensors"


STEP_TOKENS = 1024
"""Of one step that makes vectors or scores, padding included; one text may have more."""


class TransformersMemory(TorchMemory):
    """Transformers with continuous batching; GPUs have layers each. `cpu_base` was measured
    (docs/benchmarks-memory.md): two fifths of it are libraries.
    """

    max_sequences = 32
    cpu_base = 840 * MIB
    cpu_spare = 256 * MIB
    gpu_host = 3 * GIB

    def __init__(self, dtype: str = "auto", quantization: str = "") -> None:
        """`dtype`: of weights and of keys and values; auto = as they are stored. `quantization`: what weights of linear
        layers are made while they are loaded; empty = nothing."""
        self._dtype = dtype
        self._quantization = quantization

    def converted(self, quantization: str) -> TransformersMemory:
        return TransformersMemory(self._dtype, quantization)

    def stored(self, facts: ModelFacts, device: Device) -> int:
        """fp32 stays fp32; MXFP4 is unpacked on a CPU, compressed-tensors everywhere."""
        if unpacks(facts):
            return max(facts.weight_bytes, facts.parameters * 2)
        if device is Device.CPU and facts.quantization is not None and facts.quantization.method == "mxfp4":
            return max(facts.weight_bytes, facts.parameters * 2)
        if facts.quantization is not None:
            return facts.weight_bytes
        plain = self.plain(facts, device)
        if not self._quantization:
            return plain
        kept = (
            expert_share(facts) if self._quantization in STACKED else 0
        )  # one tensor for all experts is no linear layer
        linear = int(plain * linear_share(facts) * (1 - kept))
        width = Fraction(plain, max(1, facts.parameters))
        return plain - linear + int(linear / width * CONVERTED[self._quantization])

    def plain(self, facts: ModelFacts, device: Device) -> int:
        dtype = self._computed(facts, device)
        return facts.weight_bytes if dtype == "auto" else facts.parameters * WIDTHS[dtype]

    def _computed(self, facts: ModelFacts, device: Device) -> str:
        small = (
            device is Device.CPU
            and facts.quantization is None
            and not self._quantization
            and facts.weight_bytes <= SMALL_WEIGHTS
        )
        return "float32" if small and self._dtype == "auto" else self._dtype

    def unpacked(self, facts: ModelFacts) -> int:
        """bitsandbytes: its library, and three of a layer's largest matrices in 32 bits (measured,
        docs/benchmarks-memory.md)."""
        method = facts.quantization.method if facts.quantization else self._quantization.lower()
        largest = 4 * facts.hidden_size * feed_forward(facts)
        return BITSANDBYTES + 3 * largest if method.startswith("bitsandbytes") else 0

    def pool(self, facts: ModelFacts, shape: Shape) -> Pool:
        """The model's own type; sliding layers keep every token."""
        return Pool(
            tokens=shape.kv_tokens,
            sequences=shape.sequences,
            element=self.element(facts, shape.device),
            chunk=0,
            full_sliding=True,
        )

    def element(self, facts: ModelFacts, device: Device) -> Fraction:
        own_fp32 = facts.quantization is None and facts.dtype == "F32"
        dtype = self._computed(facts, device)
        return Fraction((4 if own_fp32 else 2) if dtype == "auto" else WIDTHS[dtype])
