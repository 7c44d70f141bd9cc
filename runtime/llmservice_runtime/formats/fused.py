"""Layers that engines read as one, and that a quantization's configuration treats differently."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from llmservice_runtime.formats.expressions import SPECIAL, Finders, finders
from llmservice_runtime.formats.rounded import EXPERT, EXPERTS, rounded

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""One layer of an engine's -> the checkpoint's."""
LEFT_OUT = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
"""Lists of layers that stay as they are."""
BY_PATTERN = "re:"
"""Before patterns in compressed-tensors' list, which names must begin with."""


def divided(raw: Mapping[str, Any], tensors: Iterable[str]) -> str:
    """Where the first of them is, with its name: `model.layers.3.self_attn.qkv_proj`; empty = nowhere, or not told.

    Names must be those of the checkpoint's `tensors`: of models that have no `k_proj` the others are layers of their
    own. What has patterns that `expressions` does not read is not judged, nor what has very many.
    """
    if not any(raw.get(key) for key in ("extra_config", *LEFT_OUT)):
        return ""
    places = dict(_places(dict.fromkeys(name.rpartition(".")[0] for name in tensors)))
    letters = sum(len(part) for parts in places.values() for part in parts)
    judges = [judge.differs for judge in (rounded(raw, letters), _left_out(raw, letters)) if judge]
    return next((place[:120] for differs in judges for place, parts in places.items() if differs(place, parts)), "")


class _LeftOut:
    """What stays as it is: by name, in compressed-tensors' list also by pattern (config_utils.py:
    find_matching_patterns)."""

    def __init__(self, names: Collection[str], patterns: Finders) -> None:
        self._names = names
        self._patterns = patterns

    def differs(self, place: str, parts: list[str]) -> bool:
        """Whether some parts of a layer stay and others don't; experts are not judged."""
        if place.endswith(EXPERTS) or self._has(place):
            return False
        return len({self._has(part) for part in parts}) > 1

    def _has(self, name: str) -> bool:
        return name in self._names or any(finds(name) for finds in self._patterns.values())


def _left_out(raw: Mapping[str, Any], letters: int) -> _LeftOut | None:
    listed = next((value for key in LEFT_OUT if isinstance(value := raw.get(key), list) and value), [])
    names = {name for name in listed if isinstance(name, str)}
    marked = {name for name in names if name.startswith(BY_PATTERN) and listed is raw.get("ignore")}
    patterns = finders({name: name.removeprefix(BY_PATTERN) for name in marked}, letters, at_start=True)
    special = any(not SPECIAL.isdisjoint(name) for name in names - marked)
    return None if special or patterns is None else _LeftOut(names, patterns)


def _places(layers: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Layers of an engine's with the names of their parts in a checkpoint, of experts with those of the first one; not
    of towers that see or hear."""
    firsts = {parts[0]: (whole, parts) for whole, parts in FUSED.items()}
    experts: dict[str, tuple[str, list[str]]] = {}
    for name in layers:
        place, _, last = name.rpartition(".")
        if "layers." not in place or "vis" in place or "audio" in place:
            continue
        if EXPERT in name:
            block, _, rest = name.partition(EXPERT)
            number = rest.partition(".")[0]
            first, parts = experts.setdefault(block + EXPERTS, (number, []))
            if number == first:
                parts.append(name)
        elif last in firsts:
            whole, each = firsts[last]
            names = [f"{place}.{part}" for part in each]
            if all(one in layers for one in names):
                yield f"{place}.{whole}", names
    yield from ((block, parts) for block, (_, parts) in experts.items())
