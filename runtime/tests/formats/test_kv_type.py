"""The type of the KV cache, however quantization configurations state it (vLLM 0.32: attention.py, torch_utils.py)."""

from __future__ import annotations

from typing import Any

import pytest

from llmservice_runtime.formats.quantization import quantization

FLOAT8 = {"num_bits": 8, "type": "float"}
GROUPS = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"g": {"weights": FLOAT8}},
}


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (GROUPS, ""),
        ({**GROUPS, "kv_cache_scheme": None}, ""),
        ({**GROUPS, "kv_cache_scheme": {**FLOAT8, "strategy": "tensor", "symmetric": True}}, "FP8"),
        ({**GROUPS, "kv_cache_scheme": {**FLOAT8, "strategy": "attn_head"}}, "FP8"),
        ({**GROUPS, "kv_cache_scheme": {**FLOAT8, "strategy": "token"}}, "FP8 per token"),
        ({**GROUPS, "kv_cache_scheme": {**FLOAT8, "symmetric": False}}, "asymmetric FP8"),
        ({**GROUPS, "kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "INT8"),
        ({**GROUPS, "kv_cache_scheme": {"num_bits": 4, "type": "float"}}, "FP4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, ""),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "FP8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "INT8"}, ""),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {**FLOAT8, "dynamic": False}}, "FP8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {**FLOAT8, "dynamic": True}}, ""),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 4, "type": "float"}},
            "NVFP4",
        ),
        # hf_quant_config.json keeps its keys one level below
        (
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}},
            "FP8",
        ),
        (
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "nvfp4"}},
            "NVFP4",
        ),
        # only the scales are read
        ({"quant_method": "quark", "export": {"kv_cache_group": ["*k_proj"]}, "kv_cache_scheme": FLOAT8}, ""),
        ({"quant_method": "fp8", "kv_cache_scheme": {**FLOAT8, "dynamic": False}}, ""),
        ({"quant_method": "gptq", "bits": 4, "kv_cache_quant_algo": "FP8"}, ""),
    ],
)
def test_type_of_the_kv_cache(raw: dict[str, Any], wanted: str) -> None:
    found = quantization(raw)
    assert found is not None
    assert found.kv_cache == wanted
