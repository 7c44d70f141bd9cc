"""Layers that engines read as one, and that a quantization's configuration treats differently."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""One layer of an engine's -> the checkpoint's."""
LEFT_OUT = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
"""Lists of layers that stay as they are."""
WHOLE: Hashable = ("16", "-1", "True")
"""An AutoRound layer that is not quantized."""
_SPECIAL = frozenset("*+?^$()[]{}|\\")


def divided(raw: Mapping[str, Any], tensors: Iterable[str]) -> str:
    """Where the first of them is, with its name: `model.layers.3.self_attn.qkv_proj`; empty = nowhere, or not told.

    Names must be those of the checkpoint's `tensors`: of models that have no `k_proj` the others are layers of their
    own. Patterns are not judged.
    """
    found = dict.fromkeys((*_rounded(raw), *_left_out(raw)))
    wanted = {place: FUSED[place.rpartition(".")[2]] for place in found}
    if not wanted:
        return ""
    there = {name.rpartition(".")[0] for name in tensors}
    parts = {place: [f"{place.rpartition('.')[0]}.{one}" for one in names] for place, names in wanted.items()}
    return next((place[:120] for place, names in parts.items() if there.issuperset(names)), "")


def _rounded(raw: Mapping[str, Any]) -> Iterator[str]:
    """AutoRound's `extra_config`: bits, group and symmetry of single layers."""
    layers, blocks = raw.get("extra_config"), raw.get("block_name_to_quantize", raw.get("to_quant_block_names"))
    if not isinstance(layers, dict) or any(not _SPECIAL.isdisjoint(name) for name in layers):
        return
    usual = tuple(str(raw.get(key, True if key == "sym" else None)) for key in ("bits", "group_size", "sym"))
    begin = tuple(blocks.split(",") if isinstance(blocks, str) else filter(_is_text, blocks or ()))
    said: dict[str, Hashable] = {
        name: tuple(str(one.get(key, usual[at])) for at, key in enumerate(("bits", "group_size", "sym")))
        for name, one in layers.items()
        if isinstance(one, dict)
    }
    for place, names in _places(said):
        other: Hashable = usual if not begin or place.startswith(begin) else WHOLE
        if len({said.get(name, other) for name in names}) > 1:
            yield place


def _left_out(raw: Mapping[str, Any]) -> Iterator[str]:
    """What stays as it is."""
    listed = next((value for key in LEFT_OUT if isinstance(value := raw.get(key), list) and value), [])
    names = {name for name in listed if isinstance(name, str)}
    if any(name.startswith("re:") or not _SPECIAL.isdisjoint(name) for name in names):
        return
    for place, parts in _places(names):
        if place not in names and not names.issuperset(parts):
            yield place


def _places(said: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Layers of an engine's that a part of is named, with the names of all parts; not those of experts, nor of towers
    that see or hear."""
    for name in said:
        place, _, last = name.rpartition(".")
        whole = next((whole for whole, parts in FUSED.items() if last in parts), "")
        if whole and "layers." in place and not any(word in place for word in ("experts", "vis", "audio")):
            yield f"{place}.{whole}", [f"{place}.{part}" for part in FUSED[whole]]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
