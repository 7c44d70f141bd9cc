"""Can a model run on attention of ours? Told by its config, then tried: both ways must give the same logits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers

from llmservice_runtime.engines.transformers.serve.alone import advance
from llmservice_runtime.engines.transformers.serve.passes import call
from llmservice_runtime.engines.transformers.serve.slots import NAME, Slots, UnfitModelError
from llmservice_runtime.engines.transformers.serve.step import make_step
from llmservice_runtime.generation.arrays import Floats, Ints

log = logging.getLogger(__name__)

LAYERS = frozenset({"full_attention", "sliding_attention"})
"""What a layer may be, of what configs call `layer_types`."""
STRETCHING = frozenset({"dynamic", "longrope"})
"""Positions that depend on the longest text: in one pass with others an answer would change theirs."""
SPLIT, LONG, SHORT = 9, 18, 3
"""A first text in two chunks and some tokens one by one, beside a second one."""
TOLERANCE = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}
"""How far the same logits may be apart, as a share of their size: computed in another order, they are never equal."""


def windows(config: Any) -> list[int]:
    """How many positions each layer looks back; 0 = all."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None) or 0
    kinds = getattr(text, "layer_types", None)
    return [int(window) if kind == "sliding_attention" else 0 for kind in kinds or ()]


def misfit(model: Any) -> str:
    """Why its config says that attention of ours is not for it; empty = nothing said."""
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) - LAYERS
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    stretch = {str(part.get("rope_type")) for part in (rope, *rope.values()) if isinstance(part, dict)} & STRETCHING
    if not model._supports_attention_backend:
        return "it computes attention in its own way"
    if kinds:
        return f"it has layers of {min(kinds)}"
    if stretch:
        return f"its positions stretch with the text ({min(stretch)})"
    if getattr(text, "num_kv_shared_layers", None):
        return "its layers share keys and values"
    return ""


@contextmanager
def attached(model: Any, slots: Slots) -> Iterator[None]:
    """Attention of `slots` within; the model's own again after it. UnfitModelError when it can't be exchanged."""
    before = model.config._attn_implementation
    attach(model, slots)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def attach(model: Any, slots: Slots) -> None:
    """Let a model's attention be that of `slots`."""
    transformers.AttentionInterface.register(NAME, slots.attend)
    model.set_attn_implementation(NAME)
    if model.config.get_text_config()._attn_implementation != NAME:
        raise UnfitModelError("its attention can't be exchanged")


def same(model: Any, vocab: int) -> tuple[str, int]:
    """Why attention of ours computes something else than the model's own (empty = it does not); bytes a token takes."""
    random = np.random.default_rng(7)
    first, second = (random.integers(0, vocab, size).astype(np.int32) for size in (LONG, SHORT))
    wanted = [advance(model, None, ids, 0, len(ids))[0] for ids in (first, second)]
    slots = Slots(2, 64, windows(model.config))
    try:
        with attached(model, slots):
            got = _through(model, slots, first, second)
    except Exception as error:  # whatever a model does not like of it: it has its own attention
        return next(iter(str(error).splitlines()), repr(error)), 0
    apart = np.concatenate([_apart(a, b) for a, b in zip(got, wanted, strict=True)])
    worst, bound = float(np.median(apart)), TOLERANCE.get(model.dtype, 6e-2)
    log.info("attention of ours differs from the model's own by %.1e of the logits", worst)
    return "" if worst <= bound else f"its logits differ by {worst:.1%}", slots.token_bytes


def _through(model: Any, slots: Slots, first: Ints, second: Ints) -> tuple[Floats, Floats]:
    """Logits of two texts that go through together: chunks, a chunk beside a token, tokens side by side."""

    def step(*parts: tuple[int, Ints, int]) -> list[Floats]:
        made = make_step([(slot, past, len(ids)) for slot, ids, past in parts], slots.capacity)
        slots.begin(made)
        ids = np.concatenate([ids for _, ids, _ in parts])
        logits, _ = call(model, ids, made.positions, slots, list(range(len(ids))))
        return np.split(logits, np.cumsum([len(ids) for _, ids, _ in parts])[:-1])

    a: list[Floats] = []
    b: list[Floats] = []
    a += step((0, first[:SPLIT], 0))
    head, tail = step((1, second[:1], 0), (0, first[SPLIT : LONG - SHORT + 1], SPLIT))
    b.append(head)
    a.append(tail)
    for n in range(1, SHORT):
        left, right = step(
            (0, first[LONG - SHORT + n :][:1], LONG - SHORT + n),
            (1, second[n : n + 1], n),
        )
        a.append(left)
        b.append(right)
    return np.concatenate(a), np.concatenate(b)


def _apart(got: Floats, wanted: Floats) -> Floats:
    """Of each row, the distance over its spread."""
    spread = wanted - wanted.mean(axis=1, keepdims=True)
    distance: Floats = np.linalg.norm(got - wanted, axis=1) / np.maximum(np.linalg.norm(spread, axis=1), 1e-6)
    return distance


def continues(model: Any, vocab: int) -> bool:
    """Whether the model's own cache takes more than one token behind others."""
    ids = np.random.default_rng(7).integers(0, vocab, LONG).astype(np.int32)
    wanted, _ = advance(model, None, ids, 0, 1)
    try:
        _, cache = advance(model, None, ids[:SPLIT], 0, 1)
        got, _ = advance(model, cache, ids[SPLIT:], SPLIT, 1)
    except Exception as error:
        log.info("the model takes one token at a time: %s", next(iter(str(error).splitlines()), repr(error)))
        return False
    return float(_apart(got, wanted)[0]) <= TOLERANCE.get(model.dtype, 6e-2)
