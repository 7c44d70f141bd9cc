"""RoPE as config.json states it: types that engines know, with what each can't do without. Refused here by name.

The types and their keys are the engines' own: `rope` in capabilities.json tells them, and a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_runtime.formats.config import HEAD_DIM, Config
from llmservice_runtime.formats.ranges import contradictory, impossible

Rope = Mapping[str, Any]
LONG = ("short_factor", "long_factor")
TYPES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "default": (),
    "axial": (),
    "proportional": (),
    "mllama4": (),
    "linear": (("factor",),),
    "ntk": (("factor",),),
    "dynamic": (("alpha", "factor"),),
    "yarn": (("factor",),),
    "deepseek_yarn": (("factor",),),
    "deepseek_llama_scaling": (("factor",),),
    "llama3": (("factor",), ("low_freq_factor",), ("high_freq_factor",)),
    "longrope": (("short_factor",), ("long_factor",)),
    "bailing_mrope": (("mrope_section",),),
    "openpangu": (("mrope_section",),),
}
"""Type -> what it needs: of each group one key."""
ALIASES = {"su": "longrope", "mrope": "default", "telechat3-yarn": "yarn", "xdrope": "dynamic"}
"""Names of checkpoints -> the type that engines read them as."""
POSITIVE = ("factor", "alpha", "low_freq_factor", "high_freq_factor", "rope_theta", "partial_rotary_factor")
NUMBERS = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "attn_factor", "short_mscale",
           "long_mscale", "extrapolation_factor")  # fmt: skip
"""Finite, and not below zero."""


def ropes(config: Config) -> Iterator[Rope]:
    """Every RoPE of the model: one, or one per kind of layer. Raises UnsupportedModel for what is none."""
    key = next((key for key in ("rope_scaling", "rope_parameters") if config.own.get(key)), "")
    rope = config.own.get(key) or {}
    if not isinstance(rope, dict):
        raise impossible(config.name, key, rope)
    nested = bool(rope) and all(value is None or isinstance(value, dict) for value in rope.values())
    for one in rope.values() if nested else (rope,):
        if one:
            yield one


def check(config: Config) -> None:
    """Raises UnsupportedModel for a type that no engine knows, one without what it needs, and numbers that can't be."""
    for rope in ropes(config):
        _check_numbers(config, rope)
        stated, kind = _stated(rope), _kind(rope)
        if not isinstance(stated, str):
            continue  # none, or no name: `context` says so
        if kind not in TYPES:
            raise contradictory(
                f"{config.name} has RoPE of the type {repr(stated)[:40]}, which no engine knows; there are "
                f"{', '.join(sorted(TYPES))}."
            )
        for group in TYPES[kind]:
            if all(rope.get(key) is None for key in group):
                raise contradictory(f"{config.name} has RoPE of the type {stated}, which needs {' or '.join(group)}.")
        if kind == "longrope":
            _check_long(config, rope)


def types(config: Config) -> tuple[str, ...]:
    """The types that are stated, each once, as engines are given them: some know more names than others."""
    named = (_kind(rope) if _stated(rope) == "yarn" else _stated(rope) for rope in ropes(config))
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


def _stated(rope: Rope) -> Any:
    return rope.get("rope_type", rope.get("type"))


def _kind(rope: Rope) -> str:
    """A type of `TYPES`, or what is stated instead; empty where that is no name."""
    stated = _stated(rope)
    kind = ALIASES.get(stated, stated) if isinstance(stated, str) else ""
    return "longrope" if kind == "yarn" and any(rope.get(key) for key in LONG) else kind  # Phi-3 called it so


def _check_numbers(config: Config, rope: Rope) -> None:
    for key in (*POSITIVE, *NUMBERS):
        value = rope.get(key)
        if value is None:
            continue
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0 or (key in POSITIVE and not value):
            raise impossible(config.name, f"{key} of its RoPE", value)


def _check_long(config: Config, rope: Rope) -> None:
    """A factor for every pair of rotated dimensions: engines multiply element by element."""
    for key in LONG:
        values = rope[key]
        if not isinstance(values, list) or not all(
            type(one) in (int, float) and math.isfinite(one) and one > 0 for one in values
        ):
            raise impossible(config.name, f"{key} of its RoPE", values)
    short, long = (len(rope[key]) for key in LONG)
    pairs = _pairs(config, rope)
    if short != long or (pairs and short not in pairs):
        wanted = f"; a head has {' or '.join(map(str, sorted(pairs)))} pairs" if pairs else ""
        raise contradictory(f"{config.name} lists {short} short and {long} long factors of its RoPE{wanted}.")


def _pairs(config: Config, rope: Rope) -> set[int]:
    """Pairs of dimensions that may be rotated in a head; empty = not told."""
    width = config.integer(*HEAD_DIM) or (config.hidden // config.heads if config.heads else 0)
    part = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    latent = config.integer("qk_rope_head_dim")
    return {int(width * part) // 2, latent // 2} - {0} if isinstance(part, int | float) else set()
