"""Detection on headers that the real libraries wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.formats.inspect import inspect_model
from tests.formats.model_samples import MemoryFiles, load_fixture

FULL, SLIDING, MLA, RECURRENT = LayerKind.FULL, LayerKind.SLIDING, LayerKind.MLA, LayerKind.RECURRENT


def facts_of(name: str) -> ModelFacts:
    return inspect_model(MemoryFiles(load_fixture(name)))


def counted(name: str) -> int:
    """The parameter count that the library printed."""
    text = load_fixture(name)["parameters.txt"]
    assert isinstance(text, bytes)
    return int(text)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("llama", (LayerGroup(FULL, 6, 2, 16, 16),)),
        ("llama-sharded", (LayerGroup(FULL, 6, 2, 16, 16),)),
        ("gemma2", (LayerGroup(SLIDING, 3, 2, 16, 16, 128), LayerGroup(FULL, 3, 2, 16, 16))),
        ("gemma3", (LayerGroup(SLIDING, 5, 2, 16, 16, 128), LayerGroup(FULL, 1, 2, 16, 16))),
        ("deepseek-v3", (LayerGroup(MLA, 6, 1, 40, 0),)),
        (
            "mamba",
            (LayerGroup(RECURRENT, 2, state_bytes=4 * (3 + 16) * 128, mixer_bytes=2 * (3 + 16) * 128),),
        ),
        (
            "qwen3-next",
            (
                LayerGroup(RECURRENT, 5, state_bytes=4 * (3 * 128 + 64 * 16), mixer_bytes=2 * (3 * 128 + 64 * 16)),
                LayerGroup(FULL, 1, 2, 16, 16),
            ),
        ),
    ],
)
def test_layers_and_parameters_of_plain_checkpoints(name: str, layers: tuple[LayerGroup, ...]) -> None:
    facts = facts_of(name)
    assert facts.layers == layers
    buffers = 5 * 4 if name == "deepseek-v3" else 0  # routing biases, no parameters to the library
    assert facts.parameters == counted(name) + buffers
    assert facts.quantization is None
    assert facts.format is ModelFormat.SAFETENSORS
    assert facts.weight_bytes == facts.parameters * (2 if facts.dtype == "BF16" else 4)
    assert len(facts.layer_weight_bytes) == facts.layer_count
    assert sum(facts.layer_weight_bytes) < facts.weight_bytes
    assert facts.files[0] == "config.json"


@pytest.mark.parametrize(
    ("name", "method", "label", "bits", "scheme", "group"),
    [
        ("bnb-nf4", "bitsandbytes", "BNB-NF4", 4, "nf4", 64),
        ("bnb-int8", "bitsandbytes", "BNB-Int8", 8, "int8", None),
        ("ct-w4a16", "compressed-tensors", "W4A16", 4, "pack-quantized W4A16", 32),
        ("ct-w8a8", "compressed-tensors", "W8A8", 8, "int-quantized W8A8", None),
        ("ct-fp8", "compressed-tensors", "FP8", 8, "float-quantized W8A8", None),
    ],
)
def test_quantized_checkpoints(name: str, method: str, label: str, bits: int, scheme: str, group: int | None) -> None:
    facts = facts_of(name)
    found = facts.quantization
    assert found is not None
    assert (found.method, found.name, found.bits, found.scheme) == (method, label, bits, scheme)
    assert found.group_size == group
    assert facts.parameters == counted("llama")
    assert not facts.notes


@pytest.mark.parametrize("name", ["bnb-nf4", "bnb-int8", "ct-w4a16", "ct-fp8"])
def test_tensors_alone_tell_the_method(name: str) -> None:
    files = load_fixture(name)
    raw = files["config.json"]
    assert isinstance(raw, bytes)
    config: dict[str, Any] = json.loads(raw)
    stated = config.pop("quantization_config")
    files["config.json"] = json.dumps(config).encode()
    found = inspect_model(MemoryFiles(files)).quantization
    assert found is not None
    assert found.method == ("fp8" if name == "ct-fp8" else stated["quant_method"])


def test_tasks_of_encoders() -> None:
    assert facts_of("bert").task is Task.EMBEDDING
    assert facts_of("bert-rerank").task is Task.RERANK
    assert facts_of("llama").task is Task.COMPLETION


def test_shards_are_all_needed() -> None:
    files = load_fixture("llama-sharded")
    facts = inspect_model(MemoryFiles(files))
    assert "model.safetensors.index.json" in facts.files
    assert sum(path.endswith(".safetensors") for path in facts.files) > 2
    assert facts.file_bytes > facts.weight_bytes
