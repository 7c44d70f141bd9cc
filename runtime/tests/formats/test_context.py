"""The context length is what the engine that serves the model derives, or the configuration is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.context import KEYS, context_tokens
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.inspect import inspect_model
from tests.formats.model_samples import MemoryFiles, hf, safetensors_bytes


def tokens(name: str = "config.json", /, **root: Any) -> int:
    """By the classes that the engines told."""
    return context_tokens(Config(root, name, config_classes()))


def rope(kind: str, factor: Any = 4.0, **more: Any) -> dict[str, Any]:
    return {"rope_type": kind, "factor": factor, **more}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_the_engines_is_read(key: str) -> None:
    assert tokens(model_type="acme", **{key: 4096}) == 4096


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ({"max_position_embeddings": 8192, "seq_length": 4096, "n_positions": 6000}, 4096),  # the smallest
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),  # command-r
        ({"max_position_embeddings": 8192, "model_max_length": 4096}, 4096),
        ({"n_ctx": 1024}, 1024),
        ({"model_type": "gpt2", "n_ctx": 512}, 1024),  # the class has n_positions, which is what counts
        ({"model_type": "falcon"}, 2048),
        ({"model_type": "mpt", "max_seq_len": 65536}, 65536),
        ({"model_type": "bloom"}, 0),
        ({"model_type": "cohere", "max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"model_type": "llama", "seq_length": 4096}, 2048),  # the class's max_position_embeddings is smaller
        ({"max_position_embeddings": 99, "text_config": {"max_position_embeddings": 2048}}, 2048),
        ({"max_position_embeddings": 99, "llm_config": {"x": 1}}, 99),
        ({}, 0),
    ],
)
def test_which_key_counts(root: dict[str, Any], expected: int) -> None:
    assert tokens(**{"model_type": "acme", **root}) == expected


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (rope("linear"), 16384),
        (rope("dynamic", 2), 8192),
        (rope("ntk", 2.0), 8192),
        (rope("default"), 16384),
        ({"rope_type": "default", "factor": None}, 4096),
        (rope("yarn", original_max_position_embeddings=1024), 4096),  # scaled already
        (rope("deepseek_yarn", 40), 4096),
        (rope("llama3", 8.0, original_max_position_embeddings=512), 4096),
        (rope("longrope", original_max_position_embeddings=512), 4096),
        ({"type": "su", "rope_type": "longrope", "factor": 3}, 4096),
        ({"type": "mrope", "rope_type": "default", "mrope_section": [1, 1]}, 4096),
        ({"type": "linear", "factor": 4}, 16384),
        ({"full_attention": rope("linear"), "sliding_attention": {"rope_type": "default"}}, 16384),
        ({"full_attention": rope("yarn"), "sliding_attention": None}, 4096),
        ({}, 4096),
        (None, 4096),
    ],
)
def test_what_scalings_of_rope_do(key: str, scaling: Any, expected: int) -> None:
    assert tokens(model_type="acme", max_position_embeddings=4096, **{key: scaling}) == expected
    assert tokens(model_type="acme", text_config={"max_position_embeddings": 4096, key: scaling}) == expected


def test_gemma_3_states_what_was_reached() -> None:
    text = {"model_type": "gemma3_text", "rope_scaling": rope("linear", 8.0)}
    assert tokens(model_type="gemma3", text_config=text) == 131072


@pytest.mark.parametrize(
    ("root", "expected"),
    [({}, 128_000), ({"max_seq_len": 32768}, 32768), ({"max_position_embeddings": 262144}, 262144)],
)
def test_mistral_s_own_layout(root: dict[str, Any], expected: int) -> None:
    assert tokens("params.json", **{"dim": 64, "n_layers": 2, **root}) == expected


def test_mistral_s_own_layout_takes_what_is_missing_from_config_json() -> None:
    files: dict[str, bytes | tuple[bytes, int]] = {
        "params.json": json.dumps({"dim": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 8}).encode(),
        "config.json": json.dumps({"model_type": "mistral", "max_position_embeddings": 4096}).encode(),
        "consolidated.safetensors": safetensors_bytes({"w": ("BF16", (4, 4))}),
    }
    assert inspect_model(MemoryFiles(files), classes=config_classes()).context_tokens == 4096
    del files["config.json"]
    assert inspect_model(MemoryFiles(files), classes=config_classes()).context_tokens == 128_000


@pytest.mark.parametrize(
    "value", [-1, 0, -5, 1 << 31, 10**18, 10**400, math.nan, math.inf, 4096.5, "4096", True, [4096]]
)
@pytest.mark.parametrize("place", ["top", "part", "original", "override"])
def test_positions_that_cannot_be_are_refused_by_name(place: str, value: Any) -> None:
    root: dict[str, Any] = {
        "top": {"max_position_embeddings": value},
        "part": {"text_config": {"max_position_embeddings": value}},
        "original": {"rope_scaling": rope("yarn", original_max_position_embeddings=value)},
        "override": {"max_position_embeddings": 4096, "model_max_length": value},
    }[place]
    with pytest.raises(UnsupportedModel) as caught:
        tokens(model_type="llama", **root)
    assert caught.value.failure is FailureClass.MODEL_DAMAGED
    assert "max" in caught.value.reason and str(value)[:60] in caught.value.reason


@pytest.mark.parametrize("kind", ["yarn", "linear", "dynamic", "llama3"])
@pytest.mark.parametrize("factor", [0, -4, math.nan, math.inf, 1e12, "4", True, [4]])
def test_factors_that_cannot_be_are_refused(kind: str, factor: Any) -> None:
    with pytest.raises(UnsupportedModel, match="factor"):
        tokens(model_type="llama", max_position_embeddings=4096, rope_scaling=rope(kind, factor))


def test_a_factor_over_a_long_context_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="factor"):
        tokens(model_type="llama", max_position_embeddings=1 << 29, rope_scaling=rope("linear", 1000.0))


@pytest.mark.parametrize("scaling", ["yarn", [1], 4])
def test_a_scaling_that_is_none_is_refused(scaling: Any) -> None:
    with pytest.raises(UnsupportedModel, match="rope_scaling"):
        tokens(model_type="llama", rope_scaling=scaling)


def test_two_names_of_a_scaling_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="rope_type"):
        tokens(model_type="llama", rope_scaling={"type": "linear", "rope_type": "yarn", "factor": 2})


@pytest.mark.parametrize(
    ("architecture", "beside", "expected"),
    [
        ("XLMRobertaModel", {"tokenizer_config.json": {"model_max_length": 512}}, 512),
        ("XLMRobertaModel", {"tokenizer_config.json": {"model_max_length": 10**30}}, 512),
        ("XLMRobertaModel", {"tokenizer_config.json": {"model_max_length": 1e30}}, 512),
        ("XLMRobertaModel", {"sentence_bert_config.json": {"max_seq_length": 256}}, 256),
        ("XLMRobertaModel", {"sentence_xlm-roberta_config.json": {"max_seq_length": 128}}, 128),
        ("XLMRobertaModel", {"sentence_bert_config.json": {"max_seq_length": None}}, 512),
        ("XLMRobertaForSequenceClassification", {"tokenizer_config.json": {"model_max_length": 512}}, 512),
        ("XLMRobertaForCausalLM", {"tokenizer_config.json": {"model_max_length": 512}}, 514),
    ],
)
def test_models_that_embed_end_where_their_tokenizer_does(
    architecture: str, beside: dict[str, Any], expected: int
) -> None:
    assert inspect_model(embedder(architecture, beside)).context_tokens == expected


@pytest.mark.parametrize("value", [-1, 0, "512", True, math.nan, math.inf])
@pytest.mark.parametrize(
    ("file", "key"), [("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")]
)
def test_lengths_beside_the_configuration_that_cannot_be_are_refused(file: str, key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModel, match=f"{file}.*{key}") as caught:
        inspect_model(embedder("XLMRobertaModel", {file: {key: value}}))
    assert caught.value.failure is FailureClass.MODEL_DAMAGED


def embedder(architecture: str, beside: dict[str, Any]) -> MemoryFiles:
    learned: dict[str, Any] = {"position_embedding_type": "absolute", "max_position_embeddings": 514}
    return hf(side=beside, architectures=[architecture], model_type="xlm-roberta", **learned)
