"""What config.json leaves out is what the config class has."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.formats.classes import ConfigClass, Part, completed
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.context import context_tokens
from llmservice_runtime.formats.facts import LayerKind
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.formats.layers import layer_groups
from tests.formats.model_samples import MemoryFiles, safetensors_bytes

TOY = {
    "toy": ConfigClass({"width": 8, "depth": 2, "heads": None}, {"hidden_size": "width"}),
    "toy_vl": ConfigClass({"depth": 9}, part=Part("words", "toy", omitted={"depth": 3}, given={"width": 16})),
}


def of(**root: Any) -> Config:
    """With the classes that the engines told."""
    return Config(root, classes=config_classes())


@pytest.mark.parametrize(
    ("root", "values"),
    [
        ({"model_type": "toy"}, {"width": 8, "hidden_size": 8, "depth": 2, "heads": None}),
        ({"model_type": "toy", "width": 4}, {"width": 4, "hidden_size": 4}),
        ({"model_type": "toy", "hidden_size": 4}, {"width": 4, "hidden_size": 4}),
        ({"model_type": "toy", "depth": None}, {"depth": None}),  # a null is stated
        ({"model_type": "toy_vl"}, {"depth": 3, "width": 8}),  # the part is left out
        ({"model_type": "toy_vl", "depth": 7}, {"depth": 7}),  # an old configuration is flat
        ({"model_type": "toy_vl", "words": {}}, {"depth": 2, "width": 16, "model_type": "toy"}),
        ({"model_type": "toy_vl", "depth": 7, "words": {}}, {"depth": 2}),  # what stands beside a part is not its own
        ({"model_type": "toy_vl", "words": {"depth": 5}}, {"depth": 5}),
        ({"model_type": "foreign", "depth": 7, "text_config": {"model_type": "toy"}}, {"depth": 2, "width": 8}),
        ({"model_type": "foreign", "depth": 7, "text_config": {"model_type": "other"}}, {"depth": 7}),
        ({"model_type": 7, "depth": 1}, {"depth": 1}),
    ],
)
def test_defaults_stand_under_what_is_stated(root: dict[str, Any], values: dict[str, Any]) -> None:
    found = completed(root, TOY).values
    assert {name: found.get(name) for name in values} == values


def test_a_part_of_a_fixed_type_is_that_whatever_it_says() -> None:
    fixed = {**TOY, "toy_vl": ConfigClass({}, part=Part("words", "toy", fixed=True))}
    root = {"model_type": "toy_vl", "words": {"model_type": "acme"}}
    assert completed(root, fixed).values["width"] == 8
    assert "width" not in completed(root, TOY).values


@pytest.mark.parametrize(
    ("root", "context", "heads"),
    [
        ({"model_type": "gemma3", "text_config": {"hidden_size": 2560, "num_hidden_layers": 34}}, 131072, 4),
        ({"model_type": "llava", "text_config": {"model_type": "llama", "max_position_embeddings": 4096}}, 4096, 0),
        ({"model_type": "llava", "text_config": {}}, 2048, 0),
        ({"model_type": "paligemma", "text_config": {"model_type": "gemma"}}, 8192, 16),
        ({"model_type": "paligemma"}, 8192, 1),
        ({"model_type": "voxtral", "text_config": {"model_type": "llama"}}, 131072, 8),
        ({"model_type": "qwen2_5_omni", "thinker_config": {"text_config": {}}}, 32768, 4),
        ({"model_type": "qwen2_vl", "hidden_size": 1536, "num_attention_heads": 12}, 32768, 8),
        ({"model_type": "step3_vl", "text_config": {"model_type": "step3_text"}}, 65536, 0),
        ({"model_type": "chatglm"}, 2048, 0),
        ({"model_type": "falcon"}, 2048, 0),
        ({"model_type": "gpt2"}, 1024, 0),
        ({"model_type": "minimax_m3_vl", "text_config": {}}, 524288, 4),
        ({"model_type": "kimi_linear"}, 4096, 0),  # vLLM has a class of its own
    ],
)
def test_defaults_are_those_of_the_engines_classes(root: dict[str, Any], context: int, heads: int) -> None:
    config = of(**root)
    assert (context_tokens(config), config.integer("num_key_value_heads")) == (context, heads)
    assert config.layers and config.hidden and config.heads and config.integer("vocab_size", "padded_vocab_size")


def test_the_size_of_a_head_beside_a_part_is_another_part_s() -> None:
    """MusicFlamingo as Transformers saves it: 1,280 at the top is what hears."""
    text = {"model_type": "qwen2", "hidden_size": 4096, "num_attention_heads": 32}
    config = of(model_type="musicflamingo", head_dim=1280, text_config=text)
    assert {group.k_dim for group in layer_groups(config)} == {128}


@pytest.mark.parametrize(
    ("stated", "whole"),
    [
        ({}, (4, 512)),  # what layers that see all have of their own is no field of the class
        ({"global_head_dim": 256, "num_global_key_value_heads": 2, "attention_k_eq_v": True}, (2, 256)),
        ({"num_global_key_value_heads": 2, "attention_k_eq_v": False}, (4, 512)),
    ],
)
def test_whole_layers_of_gemma_4_have_heads_of_their_own(stated: dict[str, Any], whole: tuple[int, int]) -> None:
    config = of(model_type="gemma4", text_config={"model_type": "gemma4_text", **stated})
    heads = {(group.kind, group.count): (group.kv_heads, group.k_dim) for group in layer_groups(config)}
    assert heads == {(LayerKind.SLIDING, 25): (4, 256), (LayerKind.FULL, 5): whole}


@pytest.mark.parametrize(
    ("root", "dim"),
    [
        ({"model_type": "voxtral", "text_config": {"model_type": "llama", "hidden_size": 3072}}, 128),
        ({"model_type": "voxtral"}, 128),
        ({"model_type": "mistral3"}, 128),
        ({"model_type": "mistral3", "text_config": {"model_type": "mistral", "hidden_size": 5120}}, 160),
    ],
)
def test_the_whole_gives_its_part_a_size_of_heads_that_the_part_would_derive(root: dict[str, Any], dim: int) -> None:
    """128 is what Llama's class derives from its own width, and not from the 3,072 that Voxtral gives it."""
    assert {group.k_dim for group in layer_groups(of(**root))} == {dim}


def test_fields_that_a_class_calls_otherwise_are_its_sizes() -> None:
    config = of(model_type="moondream3")
    assert (config.hidden, config.layers, config.heads, context_tokens(config)) == (2048, 24, 32, 4096)


@pytest.mark.parametrize("model_type", ["bloom", "falcon"])
def test_old_names_that_a_class_still_takes_are_read(model_type: str) -> None:
    assert of(model_type=model_type, n_embed=4096).hidden == 4096


def test_every_class_completes_a_configuration_that_says_nothing() -> None:
    for model_type in config_classes():
        config = of(model_type=model_type)
        assert min(context_tokens(config), config.layers, config.hidden, config.heads) >= 0, model_type


def test_nothing_is_invented_for_remote_code() -> None:
    config = of(model_type="acme", auto_map={"AutoConfig": "configuration_acme.AcmeConfig"})
    assert (config.layers, config.hidden, config.heads, context_tokens(config), config.layer_unit) == (0, 0, 0, 0, ())


def test_gemma_3_as_published_has_its_class_s_context_and_cache() -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    text |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}
    spelled = text | {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208}
    short, full = (_facts(part) for part in (text, spelled | {"max_position_embeddings": 131072}))
    assert short == dataclasses.replace(full, file_bytes=short.file_bytes)
    assert short.context_tokens == 131072
    assert [(group.count, group.kv_heads, group.k_dim, group.window) for group in short.layers] == [
        (29, 4, 256, 1024),
        (5, 4, 256, 0),
    ]


def _facts(text: dict[str, Any]) -> Any:
    root = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    weights = safetensors_bytes({"model.layers.0.w": ("BF16", (4, 4))})
    files = MemoryFiles({"config.json": json.dumps(root).encode(), "model.safetensors": weights})
    return inspect_model(files, classes=config_classes())


def test_parts_are_of_the_library_that_has_the_whole() -> None:
    """vLLM has a class of its own for Step 3.5, and Transformers' Step 3.7 has Transformers' Step 3.5 in it."""
    assert context_tokens(Config({"model_type": "step3p5"}, classes=config_classes())) == 4096
    part = {"model_type": "step3p5", "num_hidden_layers": 45}
    for root in ({"model_type": "step3p7"}, {"model_type": "step3p7", "text_config": part}):
        assert context_tokens(Config(root, classes=config_classes())) == 128000
    assert Config({"model_type": "kimi_vl"}, classes=config_classes()).integer("kv_lora_rank") == 512
