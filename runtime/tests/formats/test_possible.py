"""What no model can have is refused by name, in config.json and in a GGUF's header."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.formats.config import HEADS, HIDDEN, KV_HEADS, LAYERS, Config
from llmservice_runtime.formats.context import KEYS as CONTEXT
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.gguf_possible import FACTORS, NEEDED
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.formats.possible import GENERATION, PER_LAYER, check
from tests.formats.conftest import GgufMaker
from tests.formats.model_samples import MemoryFiles, hf

SIZES = (*HIDDEN, *HEADS, *KV_HEADS, *LAYERS, "vocab_size", "intermediate_size")
TEN = {"num_hidden_layers": 10, "hidden_size": 64, "num_attention_heads": 4}


def refusal(files: MemoryFiles) -> str:
    with pytest.raises(UnsupportedModel) as caught:
        inspect_model(files, classes=config_classes())
    assert caught.value.failure is FailureClass.MODEL_DAMAGED
    return caught.value.reason


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", [-1, 0, 1 << 40, 10**30, math.nan, math.inf, -math.inf, 2.5, "8", True, {"x": 1}])
def test_sizes(key: str, value: Any) -> None:
    for root in ({**TEN, key: value}, {"model_type": "llava", "text_config": {"model_type": "llama", key: value}}):
        with pytest.raises(UnsupportedModel, match=key):
            check(Config(root, classes=config_classes()))


@pytest.mark.parametrize("key", ["head_dim", "kv_lora_rank", "qk_rope_head_dim", "num_experts", "num_local_experts"])
@pytest.mark.parametrize("value", [-1, 1 << 40, math.nan, "8", True])
def test_sizes_that_may_be_none(key: str, value: Any) -> None:
    check(Config({**TEN, key: 0}))
    with pytest.raises(UnsupportedModel, match=key):
        check(Config({**TEN, key: value}))


@pytest.mark.parametrize("key", ["rope_theta", "partial_rotary_factor"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "10000", True, [1.0, -1.0]])
def test_factors(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModel, match=key):
        check(Config({**TEN, key: value}))


@pytest.mark.parametrize("key", PER_LAYER)
def test_lists_that_are_too_short(key: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"{key} of config.json lists 1 layers, and the model has 10"):
        check(Config({**TEN, key: [2]}))
    check(Config({**TEN, key: [2] * 10}))
    check(Config({**TEN, key: [2] * 12}))  # layers of multi-token prediction are listed too
    check(Config({**TEN, key: []}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_attention_heads": 5},
        {"num_attention_heads": 128},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 8},
        {"num_key_value_heads": [2] * 9 + [3]},
        {"num_key_value_heads": [2] * 9 + [-1]},
        {"num_experts": 4, "num_experts_per_tok": 8},
        {"text_config": "x"},
        {"rope_scaling": {"rope_type": ["yarn"], "factor": 2}},
    ],
)
def test_what_does_not_go_together(wrong: dict[str, Any]) -> None:
    assert refusal(hf(**{**TEN, **wrong}))


@pytest.mark.parametrize(
    "odd",
    [
        {"num_attention_heads": 5, "head_dim": 16, "num_key_value_heads": 1},
        {"num_attention_heads": 5, "kv_lora_rank": 16, "num_key_value_heads": None},
        {"num_key_value_heads": [0] * 5 + [2] * 5},
        {"model_type": "mamba", "num_attention_heads": 0, "num_key_value_heads": None},
        {"num_hidden_layers": 10.0},
        {"mamba_d_head": "auto", "mamba_d_ssm": 64},
        {"moe_num_experts": [64, 64]},
        {"time_step_limit": [0.0, math.inf]},
        {"sliding_window": 0},
        {"rope_theta": {"full_attention": 1e6, "sliding_attention": 1e4}},
        {"rope_theta": [5e6, 1e4] * 5, "partial_rotary_factors": [0.5, 1.0] * 5},  # Step 3.5: one per layer
        {"num_shared_expert": [1] * 10, "moe_topk": [8] * 10, "moe_intermediate_size": [3072] * 10},  # Hunyuan-A13B
    ],
)
def test_what_is_odd_and_possible(odd: dict[str, Any]) -> None:
    assert inspect_model(hf(**{**TEN, **odd})).layers


def test_a_value_that_is_corrected_is_read() -> None:
    wrong: dict[str, Any] = {"max_position_embeddings": -5}
    with pytest.raises(UnsupportedModel) as caught:
        inspect_model(hf(**wrong))
    assert caught.value.remedy == "Correct it in a copy of the model, or ask its publisher."
    assert inspect_model(hf(max_position_embeddings=5)).context_tokens == 5


@pytest.mark.parametrize("key", GENERATION)
@pytest.mark.parametrize("value", [-2, math.nan, math.inf, "1", True, [1]])
def test_defaults_of_requests(key: str, value: Any) -> None:
    assert key in refusal(hf(side={"generation_config.json": {key: value}}))


def test_defaults_of_requests_as_published() -> None:
    usual = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "max_length": 4096, "max_new_tokens": None, "min_p": 0}
    assert inspect_model(hf(side={"generation_config.json": usual | {"repetition_penalty": 1.05}})).layers


KEYS = st.sampled_from((
    *SIZES, *PER_LAYER, *CONTEXT, "model_type", "head_dim", "rope_scaling", "rope_parameters", "rope_theta",
    "sliding_window", "text_config", "llm_config", "kv_lora_rank", "num_experts", "num_experts_per_tok", "auto_map",
    "architectures",
))  # fmt: skip
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.integers(0, 64), st.floats())
TEXTS = st.sampled_from(("", "x", "auto", "llama", "gemma3", "gemma3_text", "yarn", "linear", "full_attention"))
NAMED = st.one_of(KEYS, st.sampled_from(("type", "rope_type", "factor", "original_max_position_embeddings")))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMED, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from(("llama", "gemma3", "llava", "acme")))
def test_whatever_stands_there_it_is_a_model_or_refused(root: dict[str, Any], model_type: str) -> None:
    with suppress(UnsupportedModel):
        facts = inspect_model(hf(**{**TEN, "model_type": model_type, **root}), classes=config_classes())
        assert 0 <= facts.context_tokens <= 1 << 30
        assert all(group.count > 0 and group.kv_heads >= 0 and group.k_dim >= 0 for group in facts.layers)


def test_no_class_has_impossible_defaults() -> None:
    wrong = []
    for model_type in config_classes():
        try:
            check(Config({"model_type": model_type}, classes=config_classes()))
        except UnsupportedModel:
            wrong.append(model_type)
    said = {"glm4_moe", "glm4v_moe", "qwen3_omni_moe", "medusa", "reformer"}  # checkpoints state head_dim
    assert {name.removesuffix("_text").removesuffix("_thinker") for name in wrong} <= said


def gguf(make: GgufMaker, architecture: str = "llama", **values: Any) -> MemoryFiles:
    return MemoryFiles({"model.gguf": make(architecture, {k.replace("__", "."): v for k, v in values.items()})})


@pytest.mark.parametrize("key", NEEDED)
@pytest.mark.parametrize("value", [0, (1 << 31) - 1, "4096", [4096, 4096], True])
def test_needed_keys_of_a_gguf(make_gguf: GgufMaker, key: str, value: Any) -> None:
    assert key in refusal(gguf(make_gguf, **{key: value}))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"attention__head_count": 0}, "head_count"),
        ({"attention__head_count": 3}, "divide"),
        ({"attention__head_count": 1 << 30}, "head_count"),
        ({"attention__head_count_kv": 3}, "divide"),
        ({"attention__head_count_kv": [2]}, "head_count_kv of model.gguf lists 1 layers, and the model has 2"),
        ({"attention__head_count": [4, 4, 4]}, "lists 3 layers"),
        ({"expert_count": 4, "expert_used_count": 8}, "8 experts"),
        ({"expert_count": 1 << 20}, "expert_count"),
        ({"rope__scaling__type": "foobar"}, "rope.scaling.type"),
        ({"rope__scaling__original_context_length": (1 << 31) - 1}, "original_context_length"),
        ({"attention__key_length": "x"}, "key_length"),
    ],
)
def test_other_keys_of_a_gguf(make_gguf: GgufMaker, values: dict[str, Any], named: str) -> None:
    assert named in refusal(gguf(make_gguf, **values))


@pytest.mark.parametrize("key", FACTORS)
def test_factors_of_a_gguf(make_gguf: GgufMaker, key: str) -> None:
    assert key in refusal(gguf(make_gguf, **{key: "4"}))


def test_a_scaling_of_a_gguf_leaves_its_context_length(make_gguf: GgufMaker) -> None:
    scaled: dict[str, Any] = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4}
    scaled["rope__scaling__original_context_length"] = 1024
    assert inspect_model(gguf(make_gguf, **scaled)).context_tokens == 4096
