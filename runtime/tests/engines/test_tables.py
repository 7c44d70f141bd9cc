"""Tables that rooms below the engines keep by hand say what the engines say."""

from __future__ import annotations

from fractions import Fraction

from llmservice_runtime.engines.llamacpp.arguments import KV_TYPES
from llmservice_runtime.engines.llamacpp.options import KV_BYTES
from llmservice_runtime.engines.llamacpp.rules import known as llamacpp
from llmservice_runtime.engines.transformers.rules import known as transformers
from llmservice_runtime.formats import gguf_layers, layers
from llmservice_runtime.formats.tasks import ENCODERS


def test_cache_types_of_llama_cpp_are_its_tensor_types() -> None:
    types = llamacpp().tensor_types
    assert {name: types[number].name.lower() for name, number in KV_TYPES.items()} == {name: name for name in KV_TYPES}
    sizes = {name: Fraction(types[number].bytes, types[number].block) for name, number in KV_TYPES.items()}
    assert sizes == KV_BYTES


def test_architectures_of_ggufs_that_are_named_exist() -> None:
    told = llamacpp().architectures
    tables = (gguf_layers.PATTERNS, gguf_layers.DENSE_FIRST, gguf_layers.FULL_INTERVAL, gguf_layers.PARALLEL)
    assert {name for table in tables for name in table} <= set(told)
    beginnings = (*gguf_layers.RECURRENT, *ENCODERS)
    assert [word for word in beginnings if not any(name.startswith(word) for name in told)] == []


def test_periods_of_sliding_layers_are_those_of_the_config_classes() -> None:
    configs = transformers().configs
    told = {name: config.layer_types for name, config in configs.items()}
    for model_type, period in layers.PATTERNS.items():
        part = configs[model_type].part
        kinds = told[model_type] or told[part.type if part else ""]
        assert len(kinds) == period, model_type
        assert [kind == "full_attention" for kind in kinds] == [False] * (period - 1) + [True], model_type
    uniform = {name for name in layers.UNIFORM_WINDOW if told.get(name)}
    assert all(len(told[name]) == 1 for name in uniform)
