"""The header of a GGUF file: key-value metadata and tensor descriptions, without the values that nobody needs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.ggml_types import REMOVED, TYPES
from llmservice_runtime.formats.ranges import HeaderReader, damaged
from llmservice_runtime.formats.tensors import Tensor

KEY_LIMIT = 4096
TENSOR_LIMIT = 100_000
STRING_LIMIT = 1 << 20
"""Longer strings are stepped over."""
NAME_LIMIT = 4096
KEPT_ELEMENTS = 4096
"""Longer arrays (tokens, scores, merges) are stepped over and only counted."""
ELEMENT_LIMIT = 8_000_000
"""Array elements of one file together: bounds the time that stepping over strings takes."""
DEPTH_LIMIT = 4
ALIGNMENT = 32

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_FORMATS = {kind: struct.Struct(code) for kind, code in _SCALARS.items()}
_STRING, _ARRAY, _DOUBLE = 8, 9, 12
_LEGACY = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA"}
_LEGACY |= {name.lower().encode(): name for name in _LEGACY.values()}


class Double(float):
    """A number of 64 bits: who asks llama.cpp for one of 32 under its key ends the process."""


class Skipped(NamedTuple):
    """A value that was not kept: an array of `length` elements, or a string of `length` bytes."""

    length: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`values` holds scalars, strings, short arrays of numbers as tuples, and Skipped otherwise. `tensors` in
    file order; `tensor_count` of them are said to be there."""

    version: int
    values: dict[str, Any]
    tensors: tuple[Tensor, ...]
    tensor_count: int


class _Budget:
    """Array elements that may still come."""

    def __init__(self) -> None:
        self.left = ELEMENT_LIMIT

    def spend(self, count: int, name: str) -> None:
        self.left -= count
        if self.left < 0:
            raise damaged(f"the header of {name} holds more than {ELEMENT_LIMIT} array elements.")


def check_magic(magic: bytes, name: str) -> None:
    """UnsupportedModel unless the four bytes are GGUF's; says which old format it is otherwise."""
    if magic == b"GGUF":
        return
    if magic == b"FUGG":
        raise _big_endian(name)
    if magic in (b"algg", b"ggla"):
        raise UnsupportedModel(f"{name} is a GGLA adapter, a format before GGUF.", "Convert the adapter to GGUF again.")
    if old := _LEGACY.get(magic):
        raise UnsupportedModel(
            f"{name} is a {old} file, a format that llama.cpp dropped in 2023.",
            "Use a GGUF of the same model, or convert the original weights to GGUF.",
        )
    raise damaged(f"{name} is no GGUF file: it starts with {_shown(magic)}, not with `GGUF`.")


def _shown(magic: bytes) -> str:
    text = magic.decode("ascii", "replace")
    return f"`{text}`" if text.isprintable() and text.isascii() else f"the bytes {magic.hex(' ')}"


def read_header(reader: HeaderReader, brief: bool = False) -> GgufHeader:
    """Parse a header; with `brief` stop before the tokenizer, the bulk of it: enough to see which kind of file it is.

    Raises UnsupportedModel for old, big-endian, cut and contradictory files.
    """
    name = reader.name
    check_magic(reader.take(4), name)
    version = _uint(reader, 4)
    if version & 0xFFFF == 0:
        raise _big_endian(name)
    if version not in (2, 3):
        raise UnsupportedModel(
            f"{name} has GGUF version {version}; llama.cpp reads versions 2 and 3.", "Use a newer GGUF of the model."
        )
    tensor_count, key_count = _uint(reader, 8), _uint(reader, 8)
    if tensor_count > TENSOR_LIMIT or key_count > KEY_LIMIT:
        raise damaged(f"{name} claims {tensor_count} tensors and {key_count} keys.")
    values = _read_values(reader, key_count, brief)
    alignment = values.get("general.alignment", ALIGNMENT)
    tensors = () if brief else _read_tensors(reader, tensor_count, alignment)
    return GgufHeader(version, values, tensors, tensor_count)


def _read_values(reader: HeaderReader, count: int, brief: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    budget = _Budget()
    for _ in range(count):
        key = _text(reader, NAME_LIMIT)
        if brief and key.startswith("tokenizer."):
            break
        if key in values:
            raise damaged(f"the key {key[:80]!r} comes twice in {reader.name}.")
        values[key] = _value(reader, _uint(reader, 4), budget, 0)
    return values


def _value(reader: HeaderReader, kind: int, budget: _Budget, depth: int) -> Any:
    """One value; long strings, long arrays and arrays of strings are Skipped."""
    if scalar := _FORMATS.get(kind):
        found = scalar.unpack(reader.take(scalar.size))[0]
        return Double(found) if kind == _DOUBLE else found
    if kind == _STRING:
        length = _uint(reader, 8)
        if length > STRING_LIMIT:
            reader.skip(length)
            return Skipped(length)
        return reader.take(length).decode("utf-8", "replace")
    if kind != _ARRAY:
        raise damaged(f"{reader.name} has a value of the unknown type {kind}.")
    inner, count = _uint(reader, 4), _uint(reader, 8)
    budget.spend(count, reader.name)
    if depth >= DEPTH_LIMIT:
        raise damaged(f"{reader.name} has arrays nested more than {DEPTH_LIMIT} deep.")
    if inner == _STRING:
        reader.skip_strings(count)
    elif count <= KEPT_ELEMENTS:
        return tuple(_value(reader, inner, budget, depth + 1) for _ in range(count))
    elif scalar := _FORMATS.get(inner):
        reader.skip(count * scalar.size)
    else:
        raise damaged(f"{reader.name} has an array of {count} values of the unknown type {inner}.")
    return Skipped(count)


def _read_tensors(reader: HeaderReader, count: int, alignment: Any) -> tuple[Tensor, ...]:
    """Tensor descriptions, checked as llama.cpp does: one after the other, aligned, inside of the file."""
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise damaged(f"{reader.name} has the alignment {str(alignment)[:40]}, which is no power of two.")
    tensors: dict[str, Tensor] = {}
    expected = end = 0
    for _ in range(count):
        tensor = _tensor(reader)
        offset = _uint(reader, 8)
        if tensor.name in tensors or offset != expected:
            raise damaged(f"tensor {tensor.name[:80]!r} of {reader.name} comes twice or overlaps another one.")
        tensors[tensor.name] = tensor
        end = offset + tensor.nbytes
        expected = -(-end // alignment) * alignment
    start = -(-reader.position // alignment) * alignment
    if tensors and start + end > reader.size:
        raise damaged(
            f"{reader.name} is cut off: its tensors end at byte {start + end}, the file has {reader.size} bytes."
        )
    return tuple(tensors.values())


def _tensor(reader: HeaderReader) -> Tensor:
    name = _text(reader, NAME_LIMIT)
    rank = _uint(reader, 4)
    if rank > 8:
        raise damaged(f"tensor {name[:80]!r} of {reader.name} has {rank} dimensions.")
    shape = struct.unpack(f"<{rank}Q", reader.take(8 * rank))
    kind = _uint(reader, 4)
    if kind in REMOVED:
        raise UnsupportedModel(
            f"tensor {name[:80]!r} of {reader.name} has type {kind}, which llama.cpp removed.",
            "Use a newer GGUF of the model, for example Q4_0 or Q4_K_M.",
        )
    if kind not in TYPES:
        raise damaged(f"tensor {name[:80]!r} of {reader.name} has the unknown type {kind}.", "Update LLMService.")
    ggml = TYPES[kind]
    if (shape and shape[0] % ggml.block) or prod(shape) >= 1 << 63:
        raise damaged(f"tensor {name[:80]!r} of {reader.name} has a shape that {ggml.name} can't have.")
    return Tensor(name, ggml.name, shape, prod(shape) // ggml.block * ggml.size)


def _uint(reader: HeaderReader, width: int) -> int:
    return int.from_bytes(reader.take(width), "little")


def _text(reader: HeaderReader, limit: int) -> str:
    length = _uint(reader, 8)
    if length > limit:
        raise damaged(f"{reader.name} has a name of {length} bytes.")
    return reader.take(length).decode("utf-8", "replace")


def _big_endian(name: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{name} is a big-endian GGUF.", "Use the little-endian one, or convert it with gguf-convert-endian."
    )
