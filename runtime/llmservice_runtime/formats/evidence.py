"""What the tensors of a checkpoint say of its quantization, when the configuration is silent or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmservice_runtime.formats.facts import Quantization
from llmservice_runtime.formats.quantization import unsupported_exl, unsupported_mlx
from llmservice_runtime.formats.tensors import Tensor, bytes_by_dtype

FLOAT8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})

SUFFIXES = frozenset({
    "qweight", "qzeros", "g_idx", "scales", "weight_packed", "weight_scale", "weight_scale_inv", "weight_scale_2",
    "SCB", "absmax", "bitsandbytes__nf4", "bitsandbytes__fp4", "trellis", "q_weight", "q_invperm", "biases",
})  # fmt: skip
"""Last parts of tensor names that tell formats apart; `_blocks` and `_scales` end MXFP4's."""
HINTS = {"-gptq": "GPTQ", "-awq": "AWQ", "-fp8": "FP8", "-bnb-4bit": "bitsandbytes", "-exl2": "EXL2", "-exl3": "EXL3"}
"""Words in names; only worth a note."""


@dataclass(frozen=True, slots=True)
class Names:
    """Which telling suffixes occur, and one example of each."""

    found: Mapping[str, Tensor]
    by_name: Mapping[str, Tensor]

    def __contains__(self, suffix: str) -> bool:
        return suffix in self.found


def telling_names(tensors: Sequence[Tensor]) -> Names:
    """Collect the suffixes that tell formats apart."""
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        name = tensor.name
        last = name[name.rfind(".") + 1 :]
        if last in SUFFIXES:
            found.setdefault(last, tensor)
        elif last.endswith(("_blocks", "_scales")):
            found.setdefault(last[-7:], tensor)
    return Names(found, {tensor.name: tensor for tensor in tensors} if found else {})


def refuse_foreign(names: Names, metadata: Mapping[str, str]) -> None:
    """UnsupportedModel for EXL2, EXL3 and quantized MLX, whatever the configuration says."""
    if "trellis" in names:
        raise unsupported_exl("EXL3")
    if "q_weight" in names and "q_invperm" in names:
        raise unsupported_exl("EXL2")
    if "biases" in names and "scales" in names and (metadata.get("format") == "mlx" or "qweight" not in names):
        raise unsupported_mlx()


def quantization_from_tensors(tensors: Sequence[Tensor], names: Names) -> Quantization | None:
    """Method by tensor names, bits by shapes; None = nothing points to a quantization."""
    if "qweight" in names and "scales" in names:
        return _gptq_or_awq(names)
    if "_blocks" in names and "_scales" in names:
        return Quantization("mxfp4", "MXFP4", 4, group_size=32)
    if "bitsandbytes__nf4" in names:
        return Quantization("bitsandbytes", "BNB-NF4", 4, group_size=64, scheme="nf4")
    if "bitsandbytes__fp4" in names or "absmax" in names:
        return Quantization("bitsandbytes", "BNB-FP4", 4, group_size=64, scheme="fp4")
    if "SCB" in names:
        return Quantization("bitsandbytes", "BNB-Int8", 8, scheme="int8")
    if "weight_scale_2" in names:
        return Quantization("modelopt_fp4", "NVFP4", 4, group_size=16, scheme="NVFP4")
    if "weight_packed" in names:
        return Quantization("compressed-tensors", "W4A16", 4, scheme="pack-quantized W4A16")
    histogram = bytes_by_dtype(tensors)
    float8 = sum(histogram[dtype] for dtype in FLOAT8)
    if "weight_scale_inv" in names and float8:
        return Quantization("fp8", "FP8", 8, group_size=128, scheme="block 128x128, dynamic")
    if float8 * 2 > sum(histogram.values()):
        return Quantization("fp8", "FP8", 8, scheme="per tensor, dynamic")
    return None


def contradiction(stated: Quantization, tensors: Sequence[Tensor], seen: Quantization | None) -> str | None:
    """A note where the configuration and the tensors name different methods."""
    plain = seen is None and not any(t.dtype not in {"F64", "F32", "F16", "BF16", "I64", "BOOL"} for t in tensors)
    if plain and tensors:
        return f"The configuration says {stated.name}, but no tensor is quantized."
    if seen and {stated.method, seen.method} == {"gptq", "awq"}:
        return f"The configuration says {stated.method}, the tensor names look like {seen.method}."
    return None


def _gptq_or_awq(names: Names) -> Quantization:
    """GPTQ has `.g_idx`, AWQ has none; GPTQ packs rows [in * bits / 32, out], AWQ columns [in, out * bits / 32]."""
    weight = names.found["qweight"]
    stem = weight.name.removesuffix("qweight")
    scales, order = names.by_name.get(f"{stem}scales"), names.by_name.get(f"{stem}g_idx")
    gptq = "g_idx" in names
    rows, columns = weight.shape if len(weight.shape) == 2 else (0, 0)
    groups, out = scales.shape if scales and len(scales.shape) == 2 else (0, 0)
    inputs = (order.shape[0] if order and order.shape else 0) if gptq else rows
    bits = (rows * 32 // inputs if inputs else 4) if gptq else (columns * 32 // out if out else 4)
    bits = bits if 2 <= bits <= 8 else 4
    group = inputs // groups if groups else None
    if gptq:
        return Quantization("gptq", f"GPTQ-Int{bits}", bits, group_size=group, scheme="gptq")
    return Quantization("awq", f"AWQ-Int{bits}", bits, group_size=group, scheme="gemm")
