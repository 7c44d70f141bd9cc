"""The type that a checkpoint wants its KV cache in, as quantization configurations state it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FP8 = "FP8"
NVFP4 = "NVFP4"


def kv_cache_type(method: str, raw: Mapping[str, Any]) -> str:
    """`FP8`, `NVFP4`, another type in words; empty where nothing is stated or no engine follows it by itself.

    vLLM 0.32 takes what compressed-tensors and ModelOpt state (attention.py, torch_utils.py). Of Quark it reads the
    scales only; ModelOpt's other types are left aside.
    """
    scheme = raw.get("kv_cache_scheme")
    if method == "compressed-tensors":
        return _compressed(scheme) if isinstance(scheme, dict) else ""
    if not method.startswith(("modelopt", "mxfp8")):
        return ""
    if isinstance(scheme, dict) and scheme.get("type") == "float":
        fixed = scheme.get("dynamic") is False and scheme.get("num_bits") == 8
        return FP8 if fixed else NVFP4 if scheme.get("num_bits") == 4 else ""
    algorithm = scheme or raw.get("kv_cache_quant_algo")
    found = algorithm.upper() if isinstance(algorithm, str) else ""
    return found if found in {FP8, NVFP4} else ""


def _compressed(scheme: Mapping[str, Any]) -> str:
    """What vLLM takes is `FP8`; all else in words."""
    bits, kind = scheme.get("num_bits", 8), scheme.get("type", "int")
    name = f"{'FP' if kind == 'float' else 'INT'}{bits if type(bits) is int else '?'}"
    strategy = scheme.get("strategy", "tensor")
    if strategy not in {"tensor", "attn_head"}:
        name += f" per {str(strategy)[:20]}"
    return name if scheme.get("symmetric") is not False else f"asymmetric {name}"
