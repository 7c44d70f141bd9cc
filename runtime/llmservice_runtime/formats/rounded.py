"""What AutoRound's `extra_config` says of single layers, as vLLM finds it (inc/config_parser.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_runtime.formats.expressions import SPECIAL, Finders, finders

EXPERT, EXPERTS = ".experts.", ".experts"
"""In the name of a layer of one expert, and at the end of that of all of them, which engines read as one."""
_KEYS = ("bits", "group_size", "sym")
_WHOLE = ("16", "-1", "True")
"""A layer that is not quantized."""


class Rounded:
    """Bits, group and symmetry of every layer: said of its name, else of the first pattern that finds it, else usual.

    The whole of a layer that an engine makes of several may be named too: by itself, or by the end of its name.
    """

    def __init__(self, raw: Mapping[str, Any], patterns: Finders) -> None:
        self._said = said_of(raw)
        self._patterns = patterns
        self._usual = tuple(str(raw.get(key, True if key == "sym" else None)) for key in _KEYS)
        blocks = raw.get("block_name_to_quantize", raw.get("to_quant_block_names")) or ()
        listed = blocks.split(",") if isinstance(blocks, str) else blocks
        self._begin = tuple(block for block in listed if isinstance(block, str))
        self._experts: dict[str, list[str]] = {}
        for name in self._said:
            if EXPERT in name:
                self._experts.setdefault(name.partition(EXPERT)[0] + EXPERTS, []).append(name)

    def differs(self, place: str, parts: list[str]) -> bool:
        """Whether the engine's layer of that name has parts that are not quantized alike, or as it is as a whole."""
        whole = next((tail for tail in _tails(place) if tail in self._said), "")
        if place.endswith(EXPERTS):
            parts = [*parts, *self._experts.get(place, ())]
            keys = [whole or self._key(place), *map(self._key, parts)]
        else:
            keys = [] if whole else list(map(self._key, parts))
        other = self._usual if not self._begin or place.startswith(self._begin) else _WHOLE
        return any(keys) and len({self._treated(key, other) for key in keys}) > 1

    def _key(self, name: str) -> str:
        """What is said of a layer stands under this key; empty = nothing is."""
        return name if name in self._said else next((key for key, finds in self._patterns.items() if finds(name)), "")

    def _treated(self, key: str, other: tuple[str, ...]) -> tuple[str, ...]:
        layer = self._said.get(key, {})
        return tuple(str(layer.get(one, other[at])) for at, one in enumerate(_KEYS))


def said_of(raw: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Names and patterns of `extra_config` with what is said of them."""
    layers = raw.get("extra_config")
    return {name: one for name, one in layers.items() if isinstance(one, dict)} if isinstance(layers, dict) else {}


def rounded(raw: Mapping[str, Any], letters: int) -> Rounded | None:
    """None where nothing is said of single layers, or patterns are not read. `letters`: of all names."""
    said = said_of(raw)
    patterns = finders({name: name for name in said if not SPECIAL.isdisjoint(name)}, letters)
    return Rounded(raw, patterns) if said and patterns is not None else None


def _tails(place: str) -> Iterator[str]:
    """`a.b.c`, `b.c` and `c`."""
    while place:
        yield place
        place = place.partition(".")[2]
