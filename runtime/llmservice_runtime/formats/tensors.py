"""Tensors as headers describe them, and the sums over them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from math import prod
from typing import NamedTuple


class Tensor(NamedTuple):
    """One tensor of a checkpoint: logical shape as stored, bytes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


INTEGERS = frozenset({"U8", "I8", "I16", "U16", "I32", "U32", "F4", "F6_E2M3", "F6_E3M2"})
"""Containers that packed weights are stored in."""
BUFFERS = frozenset({"I64", "U64", "BOOL"})
"""Positions and masks: no parameters."""

_AUXILIARY = re.compile(
    r"(?:[._](?:scales?|qzeros|g_idx|zero_point|absmax|quant_map|nested_absmax|nested_quant_map|weight_format|SCB"
    r"|weight_scale(?:_inv|_2)?|input_scale(?:_inv)?|output_scale|[kqv]_scale|activation_scale|weight_zero_point"
    r"|weight_shape|weight_g_idx|weight_global_scale|input_global_scale|input_zero_point|biases|scale_ub|smooth"
    r"|codebooks|perm)|_scales|\.quant_state\.\w+)$"
)
LAYER = re.compile(r"(?:^|\.)(?:blk|layers?|h|blocks?)\.(\d+)\.")
"""A tensor of one of the blocks."""
OTHER_TOWER = re.compile(
    r"(?:^|\.)(?:v|mm|a|vpm|apm|tts|vision\w*|visual\w*|audio\w*|speech\w*|image\w*|mtp\w*|decoder_visual"
    r"|perception|\w*qformer|talker|token2wav)\."
)
"""A tensor of what sees, hears or speaks, or predicts several tokens."""


def parameter_count(tensors: Iterable[Tensor], bits: float | None = None) -> int:
    """Weights in the checkpoint; with `bits` per packed weight, integer tensors count bits, and scales count nothing.

    Exact for plain dtypes and for formats that pack densely (GPTQ, AWQ, compressed-tensors with 2, 4 or 8 bits,
    bitsandbytes, FP8, MXFP4, NVFP4); for codebook formats (AQLM, VPTQ, QuIP) it follows from the nominal bits.
    """
    total = 0.0
    for tensor in tensors:
        if tensor.dtype in BUFFERS or (bits and _AUXILIARY.search(tensor.name)):
            continue
        packed = bits and tensor.dtype in INTEGERS and not (bits >= 8 and tensor.dtype in {"U8", "I8"})
        total += tensor.nbytes * 8 / bits if packed and bits else prod(tensor.shape)
    return round(total)


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Exact bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors)


def layer_bytes(tensors: Iterable[Tensor], layers: int) -> tuple[int, ...]:
    """Bytes of each of `layers` blocks of the language model; empty where names do not tell of every block."""
    found: Counter[int] = Counter()
    for tensor in tensors:
        match = LAYER.search(tensor.name)
        if match and not OTHER_TOWER.search(tensor.name, 0, match.start() + 1):
            found[int(match[1][:9])] += tensor.nbytes
    if not all(index in found for index in range(layers)):
        return ()
    return tuple(found[index] for index in range(layers))


def bytes_by_dtype(tensors: Iterable[Tensor]) -> Counter[str]:
    """How many bytes each dtype takes."""
    histogram: Counter[str] = Counter()
    for tensor in tensors:
        histogram[tensor.dtype] += tensor.nbytes
    return histogram


def plain_dtype(tensors: Iterable[Tensor], stated: str = "") -> str:
    """The dtype of the unquantized tensors that takes most bytes; `stated` (config.json) where there is none."""
    floats = {d: n for d, n in bytes_by_dtype(tensors).items() if d in {"F64", "F32", "F16", "BF16"}}
    return max(floats, key=lambda dtype: floats[dtype]) if floats else stated
