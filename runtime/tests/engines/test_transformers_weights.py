"""Transformers finds weights by name, so it is not planned for files that have other names."""

from __future__ import annotations

import json

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.case import Case, first_objection
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.transformers.rules import known
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.machine.machine import Device, Machine

GIB = 1 << 30


def objection(*files: str) -> str:
    facts = ModelFacts(
        ModelFormat.SAFETENSORS, "LlamaForCausalLM", "llama", Task.CHAT, None, "BF16", 10**9, 131072,
        (LayerGroup(LayerKind.FULL, 32, 8, 128, 128),), 4096, 32, 32000, 2 * 10**9, (), files, 2 * 10**9, True, True,
    )  # fmt: skip
    case = Case(facts, Machine(8, 64 * GIB, 64 * GIB), Device.CPU)
    return first_objection(definition(EngineType.TRANSFORMERS).rules, case) or ""


@pytest.mark.parametrize(
    "files",
    [
        ("config.json", "model.safetensors"),
        ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"),
        ("config.json", "pytorch_model.bin"),
        ("config.json", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"),
        ("config.json",),  # of a long list a report keeps the first
    ],
)
def test_weights_under_its_names_are_found(files: tuple[str, ...]) -> None:
    assert not objection(*files)


@pytest.mark.parametrize(
    "weights",
    ["weights.safetensors", "model.fp16.safetensors", "model-00001-of-00001.safetensors", "model.bin", "x.pt"],
)
def test_weights_under_other_names_are_told(weights: str) -> None:
    said = objection("config.json", weights)
    assert said.endswith(f"and here they are in {weights}.")
    assert all(name in said for name in known().weight_files)


def test_transformers_tells_the_names() -> None:
    assert json.dumps(known().weight_files[:2]) == '["model.safetensors", "model.safetensors.index.json"]'
