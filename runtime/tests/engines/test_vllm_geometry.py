"""What vLLM's own models keep of a sequence, and what a plan counts: the same, or the reason stands here.

geometry/answers.json is vLLM's word, written by `make geometry`: its models made without memory from the defaults of
their classes, and from the configurations in geometry/stated.py.
"""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.engines.vllm.kv_cache import as_kept
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.kv import F16
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.context import context_tokens
from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.layers import layer_groups

ANSWERS: dict[str, Any] = json.loads((Path(__file__).parent / "geometry/answers.json").read_text(encoding="utf-8"))
ASSUMED = 2048
"""Tokens of a context that no configuration tells: the plan leaves it open."""

DIFFERENT = {
    "HYV4ForCausalLM": "vLLM's class lists no layers, and then none has an indexer; Transformers saves the list",
    "hy v4 types": "the same",
    "iquest loop": "windows of layers that run again are counted as a state of their size",
    "iquest loop 3": "the same",
}


def kept(name: str) -> tuple[Any, ...]:
    """Bytes of a token, windows and states with their bytes and number, context: as vLLM says."""
    token, windows, states = Fraction(0), Counter[tuple[Fraction, int]](), Counter[int]()
    model = ANSWERS["models"][name]
    for count, kind, size, window in model["layers"]:
        if kind == "state":
            states[size] += count
        elif kind == "window":
            windows[Fraction(size).limit_denominator(1000), window] += count
        elif kind == "token":
            token += count * Fraction(size).limit_denominator(1000)
    return token, windows, states, model["context"]


def counted(name: str) -> tuple[Any, ...]:
    """The same, as a plan for vLLM has it."""
    model = ANSWERS["models"][name]
    architecture = model["architecture"]
    config = Config({"architectures": [architecture], **model["config"]}, classes=config_classes())
    token, windows, states = Fraction(0), Counter[tuple[Fraction, int]](), Counter[int]()
    for group in as_kept(layer_groups(config), (architecture,)):
        size = Fraction(group.kv_heads * (group.k_dim + group.v_dim) * F16 + group.index_bytes, group.tokens_per_state)
        if group.kind in (LayerKind.FULL, LayerKind.MLA):
            token += group.count * size
        elif group.kind is LayerKind.SLIDING:
            windows[size, group.window] += group.count
        if state := _state(group):
            states[state] += group.count
    return token, windows, states, context_tokens(config) or ASSUMED


def _state(group: LayerGroup) -> int:
    return group.mixer_bytes or (group.state_bytes if group.kind is LayerKind.RECURRENT else 0)


MADE = sorted(name for name, model in ANSWERS["models"].items() if "failed" not in model)


@pytest.mark.parametrize("name", MADE)
def test_a_plan_counts_what_vllm_keeps(name: str) -> None:
    if name in DIFFERENT:
        assert counted(name) != kept(name), "it is the same now: take it out of DIFFERENT"
    else:
        assert counted(name) == kept(name)


def test_vllms_word_is_of_the_version_that_is_planned_for() -> None:
    assert ANSWERS["vllm"] == known().versions["vllm"], "ask it anew: make geometry"
    assert len(MADE) > 160
