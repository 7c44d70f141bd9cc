"""Which scheme vLLM picks for ordinary layers of a group of compressed-tensors: what its chooser asks, restated.

Generating capabilities.json asks vLLM's chooser for every combination of `everything` and fails where it answers
otherwise, so what stands here is true of the locked version.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmservice_runtime.formats.schemes import NONE

PACKED, WHOLE = "pack-quantized", "int-quantized"
ACTIVE = frozenset({"naive-quantized", WHOLE, "float-quantized", "nvfp4-pack-quantized"})
"""Formats whose activations may be quantized, other than those that only pack weights."""
FP8_FLOOR = 89
HOPPER = 90
_PART = re.compile(
    r"(?P<type>int|float)(?P<bits>\d+) (?P<strategy>tensor|channel|group|block|token|tensor_group)(?: (?P<size>\d+))?"
    r"(?P<asymmetric> asymmetric)?(?: (?P<moves>dynamic|local))?(?P<uint8> uint8)?(?P<ordered> ordered)?"
)


@dataclass(frozen=True, slots=True)
class Part:
    """Weights, or what goes into a layer or comes out of it. `moves`: dynamic, local, or empty = static."""

    type: str
    bits: int
    strategy: str
    size: int
    symmetric: bool
    moves: str
    uint8: bool
    ordered: bool

    @property
    def possible(self) -> bool:
        """Whether compressed-tensors itself takes it."""
        grouped = self.strategy in ("group", "tensor_group")
        if grouped != (self.size > 0) or (self.strategy == "token" and not self.moves):
            return False
        if self.moves and (
            self.strategy not in ("token", "tensor", "tensor_group", "group")
            or (self.moves == "local" and self.strategy != "tensor_group")
        ):
            return False
        return self.type == "int" or self.bits in (4, 8)


@dataclass(frozen=True, slots=True)
class Group:
    """What is done to a group of layers; `layout` is how the weights are stored."""

    layout: str
    weights: Part
    inputs: Part | None
    outputs: Part | None


def scheme(word: str, capability: int) -> str | None:
    """vLLM's class for a group, as `formats.schemes.compressed` words it, on an NVIDIA GPU of that capability; None =
    it has none."""
    found = read(word)
    return _scheme(found.layout, found.weights, found.inputs, found.outputs, capability) if found else None


def read(word: str) -> Group | None:
    """The group, if compressed-tensors takes it and vLLM's reader does; else None."""
    layout, _, rest = word.partition(": ")
    parts = rest.split(" / ")
    weights, inputs, outputs = (_read(text) for text in (*parts, *[NONE] * 3)[:3])
    there = [part for part in (weights, inputs, outputs) if part is not None]
    if weights is None or weights.ordered or not all(part.possible for part in there):
        return None
    if len(there) != sum(text != NONE for text in parts):
        return None  # a word that is not one of ours
    if layout in ACTIVE and inputs is None and weights.type == "int":
        return None
    return Group(layout, weights, inputs, outputs)


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> Part | None:
    found = _PART.fullmatch(text)
    if found is None:
        return None
    return Part(
        found["type"], int(found["bits"]), found["strategy"], int(found["size"] or 0), not found["asymmetric"],
        found["moves"] or "", bool(found["uint8"]), bool(found["ordered"]),
    )  # fmt: skip


def _scheme(layout: str, weights: Part, inputs: Part | None, outputs: Part | None, capability: int) -> str | None:
    still = not weights.moves
    grouped = weights.strategy in ("group", "channel")
    if is_nvfp4(weights):
        return "CompressedTensorsW4A4Fp4" if inputs is None or is_nvfp4(inputs) else None
    floats = weights.type == "float" and weights.symmetric
    if floats and weights.strategy == "group" and weights.size == 32:
        if weights.bits == 4:
            return "CompressedTensorsW4A8Mxfp4" if still and fp8_moving(inputs) else "CompressedTensorsW4A4Mxfp4"
        if weights.bits == 8 and weights.uint8:
            return "CompressedTensorsW8A8Mxfp8"
    if inputs is not None and still:
        if capability == HOPPER and is_w4a8_fp8(weights, inputs):
            return "CompressedTensorsW4A8Fp8" if weights.size == 128 else None
        if weights.type == "int" and grouped and layout in (PACKED, WHOLE) and _static8(inputs) and _static8(outputs):
            return "CompressedTensorsWNA8O8Int" if weights.bits in (2, 4, 8) else None
        if weights.type == "int" and grouped and layout == PACKED and _moving_int(inputs) and inputs.bits in (4, 8):
            return f"CompressedTensorsWNA{inputs.bits}Int" if 2 <= weights.bits <= 8 else None
    if inputs is None and grouped and still and layout == PACKED:
        return "CompressedTensorsWNA16" if 2 <= weights.bits <= 8 else None
    return _active(weights, inputs, capability) if layout in ACTIVE else None


def _active(weights: Part, inputs: Part | None, capability: int) -> str | None:
    """Of formats that are not for packed weights."""
    if weights.moves or not weights.symmetric:
        return None
    if weights.type == "float" and weights.strategy in ("tensor", "channel", "block"):
        fits = inputs is not None and inputs.type == "float"
        fits = fits and inputs is not None and bool(inputs.moves or (inputs.symmetric and inputs.strategy == "tensor"))
        if fits and capability >= FP8_FLOOR:
            if weights.strategy == "block" and inputs is not None and not inputs.moves:
                return None
            return "CompressedTensorsW8A8Fp8"
        return "CompressedTensorsW8A16Fp8"
    if inputs is None:
        return None
    alike = weights.strategy in ("tensor", "channel") and weights.bits == inputs.bits == 8
    if alike and (inputs.strategy, bool(inputs.moves)) in (("tensor", False), ("token", True)):
        return "CompressedTensorsW8A8Int8"
    whole = weights.type == inputs.type == "int" and (weights.bits, inputs.bits) == (4, 8)
    if whole and weights.strategy in ("group", "channel") and inputs.strategy == "token" and inputs.moves:
        return "CompressedTensorsW4A8Int"
    return None


def is_nvfp4(part: Part) -> bool:
    return (part.type, part.bits, part.strategy, part.size, part.symmetric) == ("float", 4, "tensor_group", 16, True)


def fp8_moving(part: Part | None) -> bool:
    return (
        part is not None
        and (part.type, part.bits, part.symmetric) == ("float", 8, True)
        and bool(part.moves)
        and part.strategy in ("token", "group")
    )


def is_w4a8_fp8(weights: Part, inputs: Part) -> bool:
    mine = (weights.type, weights.bits, weights.strategy, weights.symmetric) == ("int", 4, "group", True)
    given = (inputs.type, inputs.bits, inputs.strategy, inputs.symmetric) == ("float", 8, "token", True)
    return mine and given and bool(inputs.moves)


def _static8(part: Part | None) -> bool:
    return part is not None and (part.type, part.bits, part.strategy, part.moves) == ("int", 8, "tensor", "")


def _moving_int(part: Part) -> bool:
    return part.type == "int" and part.symmetric and bool(part.moves) and part.strategy in ("token", "group")


LAYOUTS = (PACKED, *sorted(ACTIVE), "mxfp4-pack-quantized", "None")


def everything() -> Iterator[str]:
    """Words of all combinations that vLLM's chooser is asked with."""
    weights = [
        f"{kind} {place}{end}"
        for kind, place, end in itertools.product(
            ("int3", "int4", "int8", "int9", "float4", "float8"),
            ("tensor", "channel", "group 32", "group 128", "group", "tensor_group 16", "block", "token"),
            ("", " asymmetric", " dynamic", " uint8", " ordered"),
        )
        if end != " uint8" or kind == "float8"
    ]
    given = [
        f"{kind} {place}{end}{moves}"
        for kind, place, end, moves in itertools.product(
            ("int4", "int8", "float8"),
            ("tensor", "token", "channel", "group 128", "tensor_group 16"),
            ("", " asymmetric"),
            ("", " dynamic", " local"),
        )
    ]
    static = ("int8 tensor", "int4 tensor", "float8 tensor")
    for layout, one in itertools.product(LAYOUTS, weights):
        nvfp4 = ("float4 tensor_group 16", "float4 tensor_group 16 local")
        yield from (f"{layout}: {one} / {inputs} / {NONE}" for inputs in (NONE, *nvfp4, *given))
        yield from (f"{layout}: {one} / {inputs} / {outputs}" for inputs in static for outputs in static)
