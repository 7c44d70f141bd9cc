"""Layers that engines read as one are quantized alike, or the model is refused."""

from __future__ import annotations

from typing import Any

import pytest

from llmservice_runtime.engines.base.case import Case
from llmservice_runtime.engines.vllm.scheme_rules import divided as refused
from llmservice_runtime.formats.fused import divided
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.machine.machine import Device, Machine
from tests.formats.model_samples import hf

PLACE = "model.layers.3.self_attn"
MLP = "model.layers.3.mlp"
TENSORS = [f"{PLACE}.{one}_proj.qweight" for one in "qkvo"] + [f"{MLP}.{one}_proj.qweight" for one in ("gate", "up")]
ROUNDED = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}


def rounded(**layers: dict[str, Any]) -> dict[str, Any]:
    return {**ROUNDED, "extra_config": {f"{PLACE}.{name}": one for name, one in layers.items()}}


EIGHT = {"bits": 8}


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (rounded(q_proj=EIGHT), f"{PLACE}.qkv_proj"),
        (rounded(q_proj=EIGHT, k_proj=EIGHT, v_proj={"bits": 16}), f"{PLACE}.qkv_proj"),
        (rounded(q_proj=EIGHT, k_proj=EIGHT, v_proj=EIGHT), ""),
        (rounded(q_proj={"bits": 4, "group_size": 128}), ""),  # says what is so anyway
        (rounded(k_proj={"group_size": 64}), f"{PLACE}.qkv_proj"),
        (rounded(v_proj={"sym": False}), f"{PLACE}.qkv_proj"),
        (rounded(o_proj=EIGHT), ""),  # a layer of its own
        (rounded(kv_b_proj=EIGHT), ""),
        ({**ROUNDED, "extra_config": {f"{MLP}.up_proj": {"bits": 16}}}, f"{MLP}.gate_up_proj"),
        ({**ROUNDED, "extra_config": {f"{MLP}.experts.3.up_proj": EIGHT}}, ""),  # experts are judged elsewhere
        ({**ROUNDED, "extra_config": {r".*self_attn\.q_proj": EIGHT, f"{PLACE}.k_proj": EIGHT}}, f"{PLACE}.qkv_proj"),
        ({**ROUNDED, "extra_config": {r".*self_attn\.[qkv]_proj": EIGHT}}, ""),
        ({**ROUNDED, "extra_config": {".*self_attn.*": EIGHT}}, ""),  # q_proj, k_proj and v_proj are found alike
        ({**ROUNDED, "extra_config": {".*q_proj": EIGHT, ".*self_attn.*": EIGHT}}, ""),
        ({**ROUNDED, "extra_config": {".*self_attn.*": EIGHT, ".*q_proj": {"bits": 16}}}, ""),  # the first counts
        ({**ROUNDED, "extra_config": {".*self_attn.*": EIGHT, f"{PLACE}.q_proj": {"bits": 4}}}, f"{PLACE}.qkv_proj"),
        ({**ROUNDED, "extra_config": {r"layers\.3\.mlp\.up": {"bits": 16}}}, f"{MLP}.gate_up_proj"),
        ({**ROUNDED, "extra_config": {r"layers\.4\.mlp\.up": {"bits": 16}}}, ""),
        ({**ROUNDED, "extra_config": {"*up_proj": {"bits": 16}}}, ""),  # no pattern: vLLM passes over it
        ({**ROUNDED, "extra_config": {"up_proj": {"bits": 16}}}, ""),  # nor a layer's name
        ({**ROUNDED, "extra_config": {"mlp.gate_up_proj": EIGHT, ".*up_proj": {"bits": 16}}}, ""),  # the whole is named
        ({**ROUNDED, "extra_config": {"(?=x).*up_proj": EIGHT}}, ""),  # not judged
        ({**ROUNDED, "extra_config": {".*up_proj|q_proj": {"group_size": 64}}}, f"{PLACE}.qkv_proj"),
        ({**rounded(q_proj=EIGHT), "block_name_to_quantize": "model.visual"}, f"{PLACE}.qkv_proj"),
        (
            {**rounded(q_proj={"bits": 16, "group_size": -1}), "block_name_to_quantize": ["model.visual"]},
            "",  # outside of the blocks nothing is quantized
        ),
        ({**ROUNDED, "extra_config": {"model.layers.4.self_attn.q_proj": EIGHT}}, ""),  # it has no k_proj
        ({"quant_method": "fp8", "modules_to_not_convert": [f"{PLACE}.q_proj"]}, f"{PLACE}.qkv_proj"),
        ({"quant_method": "fp8", "modules_to_not_convert": [f"{PLACE}.{one}_proj" for one in "qkv"]}, ""),
        ({"quant_method": "fp8", "ignored_layers": [f"{PLACE}.q_proj", f"{PLACE}.qkv_proj"]}, ""),
        ({"quant_method": "compressed-tensors", "ignore": ["lm_head", f"{MLP}.gate_proj"]}, f"{MLP}.gate_up_proj"),
        ({"quant_method": "compressed-tensors", "ignore": [f"{MLP}.gate_proj", "re:.*up_proj"]}, ""),
        ({"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*gate_proj"]}, f"{MLP}.gate_up_proj"),
        ({"quant_method": "compressed-tensors", "ignore": ["re:up_proj"]}, ""),  # no name begins with it
        ({"quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*", r"re:.*mlp\.(gate|up)_proj$"]}, ""),
        ({"quant_method": "compressed-tensors", "ignore": ["re:.*[qk]_proj"]}, f"{PLACE}.qkv_proj"),
        ({"quant_method": "compressed-tensors", "ignore": ["re:.*up_proj"]}, ""),  # the whole layer is found by it
        ({"quant_method": "compressed-tensors", "ignore": ["re:(?!x).*gate_proj"]}, ""),  # not judged
        ({"quant_method": "fp8", "ignored_layers": ["re:.*up_proj"]}, ""),  # a name there, which no layer has
        ({"quant_method": "modelopt", "exclude_modules": [f"{MLP}.up_proj"]}, f"{MLP}.gate_up_proj"),
        ({"quant_method": "modelopt", "exclude_modules": [f"{MLP}*"]}, ""),
        ({"quant_method": "fp8", "modules_to_not_convert": None}, ""),
        ({"quant_method": "fp8", "modules_to_not_convert": [1, {}, None]}, ""),
        ({**ROUNDED, "extra_config": {f"{PLACE}.q_proj": None}}, ""),
        ({**ROUNDED, "extra_config": []}, ""),
    ],
)
def test_where_a_layer_is_divided(raw: dict[str, Any], where: str) -> None:
    assert divided(raw, TENSORS) == where


@pytest.mark.parametrize(
    ("layers", "is_divided"),
    [
        ({f"{MLP}.experts.1.up_proj": EIGHT}, True),
        ({f"{MLP}.experts.{n}.{one}_proj": EIGHT for n in (0, 1) for one in ("gate", "up", "down")}, True),
        ({r".*experts\.\d+\..*": EIGHT}, True),  # it finds each, and not the layer that they are
        ({r".*mlp\.experts.*": EIGHT}, False),
        ({"mlp.experts": EIGHT, r".*experts\.\d+\..*": EIGHT}, False),
        ({".*shared_experts.*": {"bits": 16}}, False),
        ({r".*shared_experts\.gate_proj": {"bits": 16}}, True),
        ({".*down_proj": EIGHT}, True),
    ],
)
def test_all_experts_are_one_layer(layers: dict[str, Any], is_divided: bool) -> None:
    names = [f"{MLP}.experts.{n}.{one}_proj.qweight" for n in (0, 1) for one in ("gate", "up", "down")]
    names += [f"{MLP}.shared_experts.{one}_proj.qweight" for one in ("gate", "up", "down")]
    assert bool(divided({**ROUNDED, "extra_config": layers}, names)) is is_divided


def test_such_a_model_is_refused_by_name() -> None:
    tensors = {f"{PLACE}.{one}_proj.qweight": ("I32", (8, 64)) for one in "qkv"}
    for raw, said in ((rounded(q_proj=EIGHT), f"{PLACE}.qkv_proj"), (ROUNDED, None)):
        facts = inspect_model(hf(tensors, raw))
        answer = refused(Case(facts, Machine(8, 1 << 36, 1 << 36), Device.NVIDIA))
        assert answer is None if said is None else answer and said in answer and "q_proj and k_proj" in answer
