"""Schemes of Quark and torchao that vLLM has no code for are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.case import Case, first_objection
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.formats.quantization import quantization
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Machine

GIB = 1 << 30


def objection(engine: EngineType, stated: dict[str, Any]) -> str:
    gpu = find_gpu("H100")
    facts = ModelFacts(
        ModelFormat.SAFETENSORS, "LlamaForCausalLM", "llama", Task.CHAT, quantization(stated), "BF16", 10**9, 131072,
        (LayerGroup(LayerKind.FULL, 32, 8, 128, 128),), 4096, 32, 32000, 2 * 10**9, (), ("model.safetensors",),
        2 * 10**9, True, True,
    )  # fmt: skip
    asked = Case(facts, Machine(8, 64 * GIB, 64 * GIB, gpus=(gpu,)), gpu.vendor, gpu)
    return first_objection(definition(engine).rules, asked) or ""


def quark(weight: Any, inputs: Any = None) -> dict[str, Any]:
    return {"quant_method": "quark", "global_quant_config": {"weight": weight, "input_tensors": inputs}}


FP8 = {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "is_dynamic": False}
MXFP4 = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}
INT4 = {"dtype": "uint4", "qscheme": "per_group", "group_size": 128}


@pytest.mark.parametrize(
    "stated",
    [
        quark(FP8, FP8),
        quark([FP8], [{**FP8, "is_dynamic": True}]),
        quark(MXFP4, {**MXFP4, "is_dynamic": True}),
        quark(MXFP4),
        quark(INT4),
        quark([FP8, INT4], FP8),  # weights that are quantized twice are the experts'
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}}},
    ],
)
def test_schemes_that_vllm_has_are_not_refused(stated: dict[str, Any]) -> None:
    assert not objection(EngineType.VLLM, stated)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (quark({**FP8, "dtype": "fp8_e5m2"}, FP8), "scheme is fp8_e5m2 per_tensor / fp8_e4m3"),
        (quark({"dtype": "int2", "qscheme": "per_group", "group_size": 32}), "scheme is int2 per_group / none"),
        (quark({**MXFP4, "group_size": 64}), "scheme is fp4 per_group 64 / none; near it are fp4 per_group 32 / none"),
        (quark(INT4, FP8), "scheme is uint4 per_group / fp8_e4m3"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "int4_weight_only, only default"),
        ({"quant_method": "torchao", "quant_type": {"a": {}, "default": {}}}, "a, default, only default"),
    ],
)
def test_schemes_that_vllm_has_not_are_refused_by_name(stated: dict[str, Any], said: str) -> None:
    assert said in objection(EngineType.VLLM, stated)
