"""Which method vLLM picks for the experts of a group of compressed-tensors, restated as `compressed` does for other
layers: fewer combinations, and kernels of their own.

Generating capabilities.json asks vLLM's own choice, down to the kernels for NVIDIA GPUs and for CPUs with AMX, and
fails where it answers otherwise.
"""

from __future__ import annotations

from llmservice_runtime.engines.vllm.compressed import (
    HOPPER,
    PACKED,
    Group,
    Part,
    fp8_moving,
    is_nvfp4,
    is_w4a8_fp8,
    read,
)

CPU = 0
"""In place of a capability: an x86 CPU with AMX."""
WNA16 = "CompressedTensorsWNA16MoEMethod"
W4A8_GROUP = 128


def method(word: str, capability: int) -> str | None:
    """vLLM's class for experts, on an NVIDIA GPU of that capability or on `CPU`; None = it has none."""
    found = read(word)
    if found is None:
        return None
    name = _method(found)
    if name == WNA16 and not _has_kernels(found.weights, capability):
        return None
    return None if capability == CPU and name in _NOT_ON_CPUS else name


_NOT_ON_CPUS = frozenset({"CompressedTensorsW4A4Nvfp4MoEMethod", "CompressedTensorsW4A8Fp8MoEMethod"})


def _method(group: Group) -> str | None:
    weights, inputs = group.weights, group.inputs
    still = not weights.moves
    if _is_micro(weights, 4):
        moving = still and fp8_moving(inputs)
        return "CompressedTensorsW4A8Mxfp4MoEMethod" if moving else "CompressedTensorsW4A4Mxfp4MoEMethod"
    if _is_micro(weights, 8) and weights.uint8:
        return "CompressedTensorsW8A8Mxfp8MoEMethod"
    if inputs is None and still and weights.strategy in ("group", "channel"):
        return WNA16 if group.layout == PACKED and 2 <= weights.bits <= 8 else None
    if is_nvfp4(weights):
        return "CompressedTensorsW4A4Nvfp4MoEMethod" if inputs is None or is_nvfp4(inputs) else None
    if inputs is None:
        return None
    if _is_fp8(weights, inputs):
        return "CompressedTensorsW8A8Fp8MoEMethod"
    if _is_int8(weights, inputs):
        return "CompressedTensorsW8A8Int8MoEMethod"
    if still and is_w4a8_fp8(weights, inputs) and weights.size == W4A8_GROUP:
        return "CompressedTensorsW4A8Fp8MoEMethod"
    return None


def _has_kernels(weights: Part, capability: int) -> bool:
    """For weights alone. One scale a row goes with Marlin only, and on Hopper others go first (int_wna16.py)."""
    if capability == CPU:
        return weights.bits == 4 and weights.symmetric and weights.strategy == "group" and weights.size != 32
    if weights.bits == 8 and not weights.symmetric:
        return False
    if weights.strategy == "group":
        return True
    return weights.bits in (4, 8) and not (capability == HOPPER and weights.symmetric)


def _is_micro(part: Part, bits: int) -> bool:
    """The OCP's formats: groups of 32."""
    return (part.type, part.bits, part.strategy, part.size, part.symmetric) == ("float", bits, "group", 32, True)


def _is_fp8(weights: Part, inputs: Part) -> bool:
    alike = weights.type == inputs.type == "float" and weights.symmetric and not weights.moves
    still = inputs.symmetric and inputs.strategy == "tensor"
    if not alike or not (inputs.moves or still):
        return False
    places = (weights.strategy, inputs.strategy)
    return weights.strategy == "block" or places in (("tensor", "tensor"), ("channel", "token"))


def _is_int8(weights: Part, inputs: Part) -> bool:
    places = (weights.strategy, inputs.strategy) == ("channel", "token")
    eight = weights.bits == inputs.bits == 8
    return places and eight and weights.symmetric and not weights.moves and bool(inputs.moves)
