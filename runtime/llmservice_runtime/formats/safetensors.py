"""The header of a safetensors file: 8 bytes of length (little-endian), JSON, then the tensors without holes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from llmservice_runtime.formats.jsontext import parse_object
from llmservice_runtime.formats.ranges import Fetch, damaged
from llmservice_runtime.formats.tensors import Tensor

HEADER_LIMIT = 32 << 20
"""The format allows 100 MB; real headers stay below 2 MB."""
FIRST_BYTES = 128 << 10
TENSOR_LIMIT = 200_000

DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8,
    "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bits per element."""


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Tensors in the order of their data, and the string map `__metadata__`."""

    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]


def read_header(fetch: Fetch, size: int, name: str) -> SafetensorsHeader:
    """Read and check the header of the file `name` of `size` bytes with at most two range reads."""
    first = fetch(0, min(size, FIRST_BYTES))
    if size < 8 or len(first) < 8:
        raise damaged(f"{name} is cut off: {size} bytes can't hold a safetensors header.")
    length = int.from_bytes(first[:8], "little")
    if first.startswith((b"version https://git-lfs", b"<!DOCTYPE", b"<html")):
        raise damaged(f"{name} holds a Git LFS pointer or a web page instead of weights.", "Download the real file.")
    if length > size - 8:
        raise damaged(f"{name} is cut off or no safetensors file: its header has {length} bytes, the file {size}.")
    if length > HEADER_LIMIT:
        raise damaged(f"the header of {name} has {length} bytes; more than {HEADER_LIMIT} is refused.")
    raw = first[8 : 8 + length]
    if len(raw) < length:
        raw += fetch(8 + len(raw), length - len(raw))
    return parse_header(raw, size - 8 - length, name)


def parse_header(raw: bytes, data_size: int, name: str) -> SafetensorsHeader:
    """Check the JSON of a header against the bytes of data that follow it."""
    fields = parse_object(raw, f"the header of {name}", unique=False)
    metadata = fields.pop("__metadata__", {})
    if raw.count(b'"data_offsets"') != len(fields):
        parse_object(raw, f"the header of {name}")  # the one place where a key can come twice: say which
    if len(fields) > TENSOR_LIMIT:
        raise damaged(f"{name} lists {len(fields)} tensors; more than {TENSOR_LIMIT} is refused.")
    if not isinstance(metadata, dict):
        raise damaged(f"the __metadata__ of {name} is no object.")
    spans = sorted((_span(key, value, name) for key, value in fields.items()), key=lambda span: span[:2])
    end = 0
    for start, stop, tensor in spans:
        if start != end:
            raise damaged(f"tensor {tensor.name[:80]!r} of {name} overlaps another one or leaves a hole before it.")
        end = stop
    if end != data_size:
        state = "is cut off" if end > data_size else "has bytes after its last tensor"
        raise damaged(f"{name} {state}: its header describes {end} bytes of tensors, the file holds {data_size}.")
    return SafetensorsHeader(
        tuple(tensor for _, _, tensor in spans), {str(k): v for k, v in metadata.items() if isinstance(v, str)}
    )


def _span(key: str, value: Any, name: str) -> tuple[int, int, Tensor]:
    """(start, end, tensor) of one entry, its size checked against dtype and shape."""
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise damaged(f"tensor {key[:80]!r} of {name} lacks dtype, shape or data_offsets.") from None
    if not isinstance(shape, list) or len(shape) > 32 or not all(map(_is_size, (*shape, start, end))):
        raise damaged(f"tensor {key[:80]!r} of {name} has an impossible shape or offset.")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise damaged(f"tensor {key[:80]!r} of {name} has the unknown dtype {str(dtype)[:40]!r}.", "Update LLMService.")
    if (prod(shape) * DTYPE_BITS[dtype] + 7) // 8 != end - start:
        raise damaged(f"tensor {key[:80]!r} of {name} takes {end - start} bytes, which {dtype} {shape} does not.")
    return start, end, Tensor(key, dtype, tuple(shape), end - start)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63
