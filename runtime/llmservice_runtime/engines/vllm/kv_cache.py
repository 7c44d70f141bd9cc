"""How vLLM lays its KV cache out: the type of its elements, and groups of layers that share blocks.

Models whose layers keep different things have one pool of equal blocks. Layers are grouped by what they keep, in groups
of equal length (kv_cache_utils.py): what is missing in the last group of a kind is allocated all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from llmservice_runtime.estimate.kv import F16
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts
from llmservice_runtime.formats.kv_type import FP8, NVFP4
from llmservice_runtime.machine.machine import Device

ELEMENTS = {FP8: Fraction(1), NVFP4: Fraction(9, 16)}
"""NVFP4 has a scale of one byte for 16 elements of half a byte."""
NEARLY = Fraction(3, 2)
"""The longest kind gives groups their length when it has less than so many times the layers of the shortest."""
SPARSE_LATENT = 656
"""Bytes of a latent in 8 bits with scales and 16-bit positions, where an indexer picks tokens (mla_attention.py)."""

_WHOLE = (LayerKind.FULL, LayerKind.MLA)


def element(facts: ModelFacts, device: Device) -> Fraction:
    """Bytes of an element where no argument says: a checkpoint's own type on GPUs, else 16 bits."""
    stated = facts.quantization.kv_cache if facts.quantization else ""
    return F16 if device is Device.CPU else ELEMENTS.get(stated, F16)


def laid_out(layers: Iterable[LayerGroup], element: Fraction) -> tuple[LayerGroup, ...]:
    """The layers that something is kept for, with those that only fill groups up.

    Beside attention a recurrent layer keeps two states of a sequence: prefix caching is on, and needs the last one.
    """
    kept = [group for group in layers if group.kind is not LayerKind.NONE]
    if element == 1 and any(group.index_bytes for group in kept):
        kept = [replace(group, k_dim=SPARSE_LATENT) if group.kind is LayerKind.MLA else group for group in kept]
    if any(group.kind is not LayerKind.RECURRENT for group in kept):
        kept = [
            group if group.kind is LayerKind.MLA else replace(group, state_bytes=2 * group.state_bytes)
            for group in kept
        ]
    if len(kept) < 2 or all(group.kind in _WHOLE for group in kept):
        return tuple(kept)
    counts = [group.count for group in kept]
    length = max(counts) if max(counts) < min(counts) * NEARLY else min(counts)
    return tuple(replace(group, count=-(-group.count // length) * length) for group in kept)


def said(layers: tuple[LayerGroup, ...]) -> str:
    """What the cache takes beyond what the layers need, as a sentence; empty where it is nothing."""
    needed = sum(group.count for group in layers if group.kind is not LayerKind.NONE)
    taken = sum(group.count for group in laid_out(layers, F16))
    if taken == needed:
        return ""
    return f"Layers of several kinds share blocks in vLLM: the KV cache is that of {taken} layers, {needed} need one."
