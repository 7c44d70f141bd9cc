"""How vLLM lays its KV cache out: the type of its elements, and groups of layers that share blocks.

Models whose layers keep different things have one pool of equal blocks. Layers are grouped by what they keep, in groups
of equal length (kv_cache_utils.py): what is missing in the last group of a kind is allocated all the same. A recurrent
state takes blocks too, so a block has as many tokens as one state has room for (platforms/interface.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.kv import F16, padded
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts
from llmservice_runtime.formats.kv_type import FP8, NVFP4
from llmservice_runtime.machine.machine import Device

ELEMENTS = {FP8: Fraction(1), NVFP4: Fraction(9, 16)}
"""NVFP4 has a scale of one byte for 16 elements of half a byte."""
NEARLY = Fraction(3, 2)
"""The longest kind gives groups their length when it has less than so many times the layers of the shortest."""
SPARSE_LATENT = 656
"""Bytes of a latent in 8 bits with scales and 16-bit positions, where an indexer picks tokens (mla_attention.py)."""
BLOCK = 16
LATENT_BLOCK = 128
"""Tokens that a block has a multiple of beside recurrent states; of latents more."""

_WHOLE = (LayerKind.FULL, LayerKind.MLA)


@dataclass(frozen=True, slots=True)
class States:
    """How recurrent states are kept beside attention: so many of each sequence, `wide` = all in 32 bits.

    Prefix caching, which is on, needs the last one beside the current, and Mamba 2 one of a prompt that is being read
    (kv_cache_interface.py: MambaSpec).
    """

    copies: int = 2
    wide: bool = False


def element(facts: ModelFacts, device: Device) -> Fraction:
    """Bytes of an element where no argument says: a checkpoint's own type on GPUs, else 16 bits."""
    stated = facts.quantization.kv_cache if facts.quantization else ""
    return F16 if device is Device.CPU else ELEMENTS.get(stated, F16)


def kept(facts: ModelFacts) -> tuple[LayerGroup, ...]:
    """What each layer keeps in the code that vLLM runs."""
    return as_kept(facts.layers, (facts.architecture, *facts.other_architectures))


def as_kept(layers: Iterable[LayerGroup], architectures: Sequence[str]) -> tuple[LayerGroup, ...]:
    """The layers of a model that names these architectures. Transformers' code computes attention alone there: latents
    stay (MLAAttention), and what an indexer would pick from them is not asked for (models/transformers/base.py). A
    window that is stated anywhere is every layer's."""
    if known().borrows(architectures):
        layers = (replace(group, index_bytes=0) for group in layers)
    return tuple(
        replace(group, kind=LayerKind.SLIDING) if group.kind is LayerKind.FULL and group.window else group
        for group in layers
    )


def laid_out(layers: Iterable[LayerGroup], element: Fraction, states: States = States()) -> tuple[LayerGroup, ...]:
    """The layers that something is kept for, with those that only fill groups up."""
    kept = [group for group in layers if group.kind is not LayerKind.NONE]
    if element == 1 and any(group.index_bytes for group in kept):
        kept = [replace(group, k_dim=SPARSE_LATENT) if group.kind is LayerKind.MLA else group for group in kept]
    kept = _mixed(kept, element, states)
    if len(kept) < 2 or all(group.kind in _WHOLE for group in kept):
        return tuple(kept)
    counts = [group.count for group in kept]
    length = max(counts) if max(counts) < min(counts) * NEARLY else min(counts)
    return tuple(replace(group, count=-(-group.count // length) * length) for group in kept)


def whole(layers: Sequence[LayerGroup]) -> tuple[LayerGroup, ...]:
    """The layers as they are kept without a manager of several kinds: beside some that keep every token, all do."""
    if not any(group.kind in _WHOLE for group in layers):
        return tuple(layers)
    return tuple(
        replace(group, kind=LayerKind.FULL, window=0) if group.kind is LayerKind.SLIDING else group for group in layers
    )


def block(layers: Iterable[LayerGroup], element: Fraction, states: States, page: int) -> int:
    """Tokens of a block: `page`, or as many as take what one recurrent state takes."""
    layers = tuple(layers)
    state, token = _state(layers, states), _token(layers, element)
    return padded(-(-state // token), _unit(layers, page)) if state and token else page


def said(layers: tuple[LayerGroup, ...]) -> str:
    """What the cache takes beyond what the layers need, as a sentence; empty where it is nothing."""
    needed = sum(group.count for group in _mixed(layers, F16, States()) if group.kind is not LayerKind.NONE)
    taken = sum(group.count for group in laid_out(layers, F16))
    if taken == needed:
        return ""
    return f"Layers of several kinds share blocks in vLLM: the KV cache is that of {taken} layers, {needed} need one."


def _mixed(layers: Sequence[LayerGroup], element: Fraction, states: States) -> list[LayerGroup]:
    """Recurrent mixers as layers of their own, all of them as one kind; their states fill whole blocks."""
    state, token = _state(layers, states), _token(layers, element)
    if not state:
        return list(layers)
    if token:
        state = states.copies * int(padded(-(-state // token), _unit(layers, BLOCK)) * token)
    count = sum(group.count for group in layers if _is_mixer(group))
    attention = [
        replace(group, state_bytes=0 if group.mixer_bytes else group.state_bytes, mixer_bytes=0)
        for group in layers
        if group.kind is not LayerKind.RECURRENT
    ]
    return [*attention, LayerGroup(LayerKind.RECURRENT, count, state_bytes=state)]


def _is_mixer(group: LayerGroup) -> bool:
    return group.kind is LayerKind.RECURRENT or group.mixer_bytes > 0


def _state(layers: Iterable[LayerGroup], states: States) -> int:
    """Bytes of one recurrent state, the largest; 0 = there is none."""
    mixers = (group for group in layers if _is_mixer(group))
    return max(
        (group.state_bytes if states.wide else group.mixer_bytes or group.state_bytes for group in mixers), default=0
    )


def _token(layers: Iterable[LayerGroup], element: Fraction) -> Fraction:
    """Bytes of a token in one layer with attention, the largest; 0 = no layer has any."""
    kept = (group for group in layers if group.kind not in (LayerKind.RECURRENT, LayerKind.NONE))
    return max((group.kv_heads * (group.k_dim + group.v_dim) * element for group in kept), default=Fraction(0))


def _unit(layers: Iterable[LayerGroup], page: int) -> int:
    return max(page, LATENT_BLOCK) if any(group.kind is LayerKind.MLA for group in layers) else page
