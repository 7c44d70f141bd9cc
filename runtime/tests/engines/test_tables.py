"""Tables that rooms below the engines keep by hand say what the engines say."""

from __future__ import annotations

from fractions import Fraction

from llmservice_runtime.engines.llamacpp.arguments import KV_TYPES
from llmservice_runtime.engines.llamacpp.options import KV_BYTES
from llmservice_runtime.engines.llamacpp.rules import known as llamacpp
from llmservice_runtime.engines.transformers.rules import known as transformers
from llmservice_runtime.formats import gguf_layers, patterns
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.tasks import ENCODERS
from llmservice_runtime.formats.units import UNIFORM_WINDOW


def test_cache_types_of_llama_cpp_are_its_tensor_types() -> None:
    types = llamacpp().tensor_types
    assert {name: types[number].name.lower() for name, number in KV_TYPES.items()} == {name: name for name in KV_TYPES}
    sizes = {name: Fraction(types[number].bytes, types[number].block) for name, number in KV_TYPES.items()}
    assert sizes == KV_BYTES


def test_architectures_of_ggufs_that_are_named_exist() -> None:
    told = llamacpp().architectures
    tables = (
        gguf_layers.PATTERNS, gguf_layers.DENSE_FIRST, gguf_layers.FULL_INTERVAL, gguf_layers.PARALLEL,
        gguf_layers.WINDOWS, gguf_layers.SLIDING_SIZES, gguf_layers.OWN_KV, gguf_layers.LOOPS, gguf_layers.LINEAR,
    )  # fmt: skip
    assert {name for table in tables for name in table} <= set(told)
    beginnings = (*gguf_layers.RECURRENT, *ENCODERS)
    assert [word for word in beginnings if not any(name.startswith(word) for name in told)] == []


WORDS = {
    "full_attention": "full", "reference_sliding_attention": "full", "sliding_attention": "sliding",
    "chunked_attention": "sliding", "linear_attention": "recurrent", "conv": "recurrent", "hybrid": "parallel",
    "hybrid_sliding": "parallel sliding", "indexed_attention": "indexed", "compressed_sparse_attention": "compressed",
    "heavily_compressed_attention": "compressed", "moe": "none", "mlp": "none",
}  # fmt: skip
"""What the config classes say of layers -> what is kept of them."""
LISTED = frozenset({"nemotron_h", "zamba", "zamba2"})
"""Families without a rule: their configurations always list the layers."""


def test_layers_that_a_configuration_does_not_list_are_those_of_the_config_class() -> None:
    configs = transformers().configs
    derived = {name: told for name, told in configs.items() if told.layer_types and name not in LISTED}
    assert len(derived) > 60
    for model_type, told in derived.items():
        # KV that layers share is another matter, and a window is stated where the class has none.
        window = {"sliding_window": 128} if "sliding_attention" in told.layer_types else {}
        count = told.has["num_hidden_layers"]
        stated = {"model_type": model_type, "num_hidden_layers": count, "num_kv_shared_layers": 0, **window}
        kinds = [WORDS[told.layer_types[index % len(told.layer_types)]] for index in range(count)]
        assert patterns.layer_words(Config(stated, classes=configs)) == kinds, model_type


def test_families_with_one_window_for_all_layers_say_so() -> None:
    told = {name: config.layer_types for name, config in transformers().configs.items()}
    assert all(len(told[name]) == 1 for name in UNIFORM_WINDOW if told.get(name))
