"""What Quark does to weights and to what goes into them, in one word: generators ask engines for those they know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "none"


def quark(group: Mapping[str, Any]) -> str:
    """Quark: `fp8_e4m3 per_channel / fp8_e4m3 dynamic`; empty where weights stay, or are quantized twice."""
    weights, inputs = _single(group.get("weight")), _single(group.get("input_tensors"))
    if not isinstance(weights, dict) or isinstance(inputs, list):
        return ""
    size = f" {weights.get('group_size')}" if weights.get("qscheme") == "per_group" and "fp" in _dtype(weights) else ""
    taken = f"{_dtype(inputs)}{' dynamic' if inputs.get('is_dynamic') else ''}" if inputs else NONE
    return f"{_dtype(weights)} {str(weights.get('qscheme'))[:20]}{size} / {taken}"


def _single(tensor: Any) -> Any:
    """Of a list with one entry that."""
    one = tensor[0] if isinstance(tensor, list) and len(tensor) == 1 else tensor
    return one if isinstance(one, dict) else [] if isinstance(one, list) else None


def _dtype(tensor: Mapping[str, Any]) -> str:
    return str(tensor.get("dtype"))[:20]
