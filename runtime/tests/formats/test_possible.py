"""What no model can have is refused by name, in config.json and in a GGUF's header."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmservice_runtime.engines
from llmservice_runtime import formats
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.capabilities import capabilities
from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.formats import rope
from llmservice_runtime.formats.config import HEADS, HIDDEN, KV_HEADS, LAYERS, Config
from llmservice_runtime.formats.context import KEYS as CONTEXT
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.gguf_possible import FACTORS, NEEDED
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.formats.possible import GENERATION, PER_LAYER, check
from tests.formats.conftest import GgufMaker
from tests.formats.model_samples import MemoryFiles, hf

SIZES = (*HIDDEN, *HEADS, *KV_HEADS, *LAYERS, "vocab_size", "intermediate_size")
TEN: dict[str, Any] = {"num_hidden_layers": 10, "hidden_size": 64, "num_attention_heads": 4}


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


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("partial_rotary_factor", 2),  # more than all of a head
        ("rotary_pct", 1.5),
        ("layer_types", [None] * 10),
        ("layer_types", ["full_attention"] * 9 + [["full_attention"]]),
        ("layers_block_type", [{"kind": "mamba"}] * 10),
        ("num_key_value_heads", [0] * 10),
        ("torch_dtype", 3),
        ("dtype", True),
        ("quantization_config", "fp8"),
        ("quantization_config", ["fp8"]),
        ("quantization_config", {"quant_method": None, "bits": 4}),
        ("quantization_config", {"quant_method": 7}),
        ("compression_config", 8),
    ],
)
def test_values_that_engines_fail_at(key: str, value: Any) -> None:
    for root in (
        {**TEN, key: value},
        {"model_type": "llava", "text_config": {**TEN, "model_type": "llama", key: value}},
    ):
        with pytest.raises(UnsupportedModel, match=key):
            check(Config(root, classes=config_classes()))


def test_values_that_mean_none_or_something_else() -> None:
    harmless: list[dict[str, object]] = [
        {"quantization_config": None},
        {"quantization_config": {}},
        {"dtype": {"": "bfloat16"}},
        {"layer_types": None},
        {"num_key_value_heads": [0] * 9 + [2]},
        {"partial_rotary_factor": 1},
    ]
    for more in harmless:
        check(Config({**TEN, **more}))


@pytest.mark.parametrize("key", ["rope_theta", "partial_rotary_factor"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "10000", True, [1.0, -1.0]])
def test_factors(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModel, match=key):
        check(Config({**TEN, key: value}))


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("value", ["float99", "auto", "BF16", "torch.bfloat16", "", ["float16"]])
def test_types_that_torch_has_not(key: str, value: Any) -> None:
    for root in ({**TEN, key: value}, {"model_type": "llava", "text_config": {"model_type": "llama", key: value}}):
        with pytest.raises(UnsupportedModel, match=key):
            check(Config(root, classes=config_classes()))
    for right in ("bfloat16", "half", "float8_e4m3fn", None):
        check(Config({**TEN, key: right}))


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


ROPE: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "ntk": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 512},
    "deepseek_yarn": {"factor": 4.0, "original_max_position_embeddings": 512},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512},
    "longrope": {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8},
    "su": {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8},
    "mrope": {"mrope_section": [4, 2, 2]},
    "xdrope": {"alpha": 1000.0},
    "default": {},
    "proportional": {},
}
"""A type and the least that makes it work; heads have 16 dimensions."""


@pytest.mark.parametrize("kind", ROPE)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("name", ["rope_type", "type"])
def test_types_of_rope(kind: str, key: str, name: str) -> None:
    whole: dict[str, Any] = {name: kind, **ROPE[kind]}
    assert inspect_model(hf(**{**TEN, key: whole})).layers
    for part in ROPE[kind]:
        if part in {
            "original_max_position_embeddings",
            "mrope_section",
        }:  # what is there counts; Transformers goes without
            continue
        lacking = {other: value for other, value in whole.items() if other != part}
        assert part in refusal(hf(**{**TEN, key: lacking}))
        for value in (-1, 0, math.nan, math.inf, "4", True, [-1.0] * 8, [1.0] * 7, ["1.0"] * 8):
            assert refusal(hf(**{**TEN, key: {**whole, part: value}}))


@pytest.mark.parametrize("kind", ["banana", "", "YARN", "yarn2", "rope"])
def test_types_of_rope_that_no_engine_knows(kind: str) -> None:
    for root in (
        {"rope_scaling": {"type": kind, "factor": 2}},
        {"rope_parameters": {"full_attention": {"rope_type": kind}}},
    ):
        assert "which no engine knows; there are " in refusal(hf(**{**TEN, **root}))


def test_types_of_rope_are_told_as_engines_are_given_them() -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    full = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    for stated, want in (
        ({"rope_scaling": {"type": "su", **factors}}, ("su",)),
        ({"rope_scaling": {"type": "yarn", **factors}}, ("longrope",)),
        (
            {"rope_parameters": {"full_attention": full, "sliding_attention": {"rope_type": "default"}}},
            ("yarn", "default"),
        ),
        ({"rope_scaling": None}, ()),
    ):
        assert inspect_model(hf(**{**TEN, **stated})).rope_types == want


def test_types_of_rope_are_those_of_the_engines() -> None:
    """And what each needs, apart from what Transformers' classes fill in."""
    filled = {"original_max_position_embeddings"}
    engines = [
        capabilities(Path(llmservice_runtime.engines.__path__[0]) / name).rope for name in ("vllm", "transformers")
    ]
    named = {kind for told in engines for kind in told}
    assert {rope.ALIASES.get(kind, kind) for kind in named} == rope.TYPES.keys()
    for kind, groups in rope.TYPES.items():
        told = [{group - filled for group in one[kind]} - {frozenset()} for one in engines if kind in one]
        assert {frozenset(group) for group in groups} in told


def test_factors_of_longrope_are_as_many_as_pairs() -> None:
    short: dict[str, Any] = {"type": "longrope", "short_factor": [1.0] * 6, "long_factor": [2.0] * 6}
    assert "6 short and 6 long factors of its RoPE; a head has 8 pairs" in refusal(hf(**{**TEN, "rope_scaling": short}))
    assert inspect_model(hf(**{**TEN, "rope_scaling": short, "partial_rotary_factor": 0.75})).layers  # Phi-4-mini
    assert inspect_model(hf(**{**TEN, "rope_scaling": short, "head_dim": 12})).layers
    latent: dict[str, Any] = {"kv_lora_rank": 16, "qk_rope_head_dim": 12, "qk_nope_head_dim": 16, "v_head_dim": 16}
    assert inspect_model(hf(**{**TEN, "rope_scaling": short, **latent})).layers  # MiniCPM3
    old = {**short, "type": "yarn", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    assert inspect_model(hf(**{**TEN, "rope_scaling": old})).layers  # Phi-3 called it so


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", "LlamaForCausalLM"),
        ("architectures", {"0": "LlamaForCausalLM"}),
        ("architectures", [1]),
        ("architectures", ["LlamaForCausalLM", None]),
        ("architectures", [""]),
        ("model_type", ["llama"]),
        ("model_type", 1),
        *(("sliding_window", value) for value in (-1, math.nan, "4096", True, 10**30, 1.5, [4096, -2], "auto")),
        *(("attention_chunk_size", value) for value in (-1, math.nan, "8192", True, 10**30)),
    ],
)
def test_names_and_windows(key: str, value: Any) -> None:
    assert key in refusal(hf(**{**TEN, key: value}))


READ = sorted(
    {
        text
        for module in Path(formats.__path__[0]).glob("*.py")
        for text in re.findall(r'"([a-z_]{3,40})"', module.read_text(encoding="utf-8"))
        if not module.name.startswith(("gguf", "ggml", "listing", "refusals", "quantization", "schemes", "safetensors"))
    }
)
"""Whatever may be a key of config.json in what reads it, and more."""
NASTY: tuple[Any, ...] = (
    -1,
    -(10**30),
    10**30,
    1 << 39,
    math.nan,
    math.inf,
    "x",
    "8",
    True,
    [],
    ["x"],
    [math.nan] * 10,
    {"x": -1},
)


@pytest.mark.parametrize("value", NASTY, ids=repr)
def test_nothing_is_planned_with_nonsense(value: Any) -> None:
    """A key with a value that can't be is refused with key and value, or what is planned with is as without it."""
    plain = [hf(**{**TEN, "model_type": kind}) for kind in ("llama", "gemma3_text", "deepseek_v3", "falcon_h1")]
    usual = [inspect_model(files, classes=config_classes()) for files in plain]
    for key in READ:
        for before in usual:
            try:
                facts = inspect_model(
                    hf(**{**TEN, "model_type": before.model_type, key: value}), classes=config_classes()
                )
            except UnsupportedModel as error:
                assert error.reason
                assert error.remedy
                continue
            assert 0 <= facts.context_tokens <= 1 << 30, key
            assert facts.layer_count <= 4096, key
            assert all(max(group.kv_heads, group.k_dim, group.v_dim) <= 1 << 20 for group in facts.layers), key
            assert all(0 <= group.window <= 1 << 30 for group in facts.layers), key
            assert all(0 <= group.state_bytes < 1 << 50 for group in facts.layers), key


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


def test_a_gguf_of_ollamas_own_with_the_part_that_sees_in_it_is_told_from_others(make_gguf: GgufMaker) -> None:
    seer = gguf(make_gguf, "gemma3", vision__block_count=27)
    with pytest.raises(UnsupportedModel, match=r"gemma3\.vision\.block_count") as caught:
        inspect_model(seer)
    assert "llama.cpp's converter" in caught.value.remedy
    assert inspect_model(gguf(make_gguf, "gemma3")).architecture == "gemma3"
