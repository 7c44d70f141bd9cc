"""Every row of the table of quantizations, each with the traps of its kind."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFormat, Quantization
from llmservice_runtime.formats.inspect import inspect_model
from tests.formats.model_samples import LLAMA, MemoryFiles, hf, safetensors_bytes

GPTQ = {
    "model.layers.0.q_proj.qweight": ("I32", (8, 64)),
    "model.layers.0.q_proj.qzeros": ("I32", (2, 8)),
    "model.layers.0.q_proj.scales": ("F16", (2, 64)),
    "model.layers.0.q_proj.g_idx": ("I32", (64,)),
}
AWQ = {
    "model.layers.0.q_proj.qweight": ("I32", (64, 8)),
    "model.layers.0.q_proj.qzeros": ("I32", (2, 8)),
    "model.layers.0.q_proj.scales": ("F16", (2, 64)),
}
FP8 = {"model.layers.0.q.weight": ("F8_E4M3", (64, 64)), "model.layers.0.q.weight_scale_inv": ("F32", (1, 1))}
MODELOPT = {"name": "modelopt", "version": "0.29"}


def quantization(**arguments: Any) -> Quantization:
    found = inspect_model(hf(**arguments)).quantization
    assert found is not None
    return found


ROWS: list[tuple[dict[str, Any], tuple[str, str, float, int | None]]] = [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, ("gptq", "GPTQ-Int4", 4, 128)),
    ({"quant_method": "gptq", "bits": 3, "group_size": -1}, ("gptq", "GPTQ-Int3", 3, -1)),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, ("awq", "AWQ-Int4", 4, 128)),
    ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, ("awq", "AWQ-Int4", 4, 64)),
    ({"quant_method": "fp8", "activation_scheme": "static"}, ("fp8", "FP8", 8, None)),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("fp8", "FP8", 8, 128)),
    ({"quant_method": "compressed_tensors", "format": "pack-quantized"}, ("compressed-tensors", "W4A16", 4, None)),
    ({"quant_method": "compressed-tensors", "format": "float-quantized"}, ("compressed-tensors", "FP8", 8, None)),
    (
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
        ("compressed-tensors", "NVFP4", 4, None),
    ),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("bitsandbytes", "BNB-Int8", 8, None)),
    (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
        ("bitsandbytes", "BNB-FP4", 4, 64),
    ),
    ({"quant_method": "modelopt", "quant_algo": "FP8", "producer": MODELOPT}, ("modelopt", "FP8", 8, None)),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ("modelopt_fp4", "NVFP4", 4, None)),
    ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, ("mxfp8", "MXFP8", 8, None)),
    ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, ("modelopt_mixed", "mixed precision", 8, None)),
    ({"quant_method": "mxfp4"}, ("mxfp4", "MXFP4", 4, None)),
    ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, ("torchao", "torchao int8_weight_only", 8, None)),
    (
        {
            "quant_method": "torchao",
            "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}},
        },
        ("torchao", "torchao Int4WeightOnlyConfig", 4, 64),
    ),
    (
        {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
        ("quark", "Quark FP8", 8, None),
    ),
    (
        {"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_gptq"},
        ("auto-round", "AutoRound-Int4", 4, 128),
    ),
    ({"quant_method": "intel/auto-round", "bits": 2}, ("auto-round", "AutoRound-Int2", 2, None)),
    ({"quant_method": "inc", "bits": 4}, ("inc", "AutoRound-Int4", 4, None)),
    ({"quant_method": "fbgemm_fp8"}, ("fbgemm_fp8", "fbgemm_fp8 8-bit", 8, None)),
    ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, ("fp_quant", "fp_quant 4-bit", 4, None)),
    ({"quant_method": "aqlm", "in_group_size": 8, "nbits_per_codebook": 16}, ("aqlm", "AQLM 2-bit", 2, 8)),
    (
        {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3, "group_size": 64}}},
        ("hqq", "hqq 3-bit", 3, 64),
    ),
    ({"quant_method": "quanto", "weights": "int4"}, ("quanto", "quanto 4-bit", 4, None)),
    ({"quant_method": "EETQ", "weights": "int8"}, ("eetq", "eetq 8-bit", 8, None)),
]
ROWS += [
    ({"quant_method": method}, (method, f"{method} {bits}-bit", bits, None))
    for method, bits in [("experts_int8", 8), ("moe_wna16", 4), ("humming", 4), ("deepseek_v4_fp8", 8), ("higgs", 4),
                         ("spqr", 3), ("vptq", 2), ("bitnet", 2), ("sinq", 4), ("fouroversix", 4), ("metal", 4)]
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), ROWS)
def test_rows_of_the_table(config: dict[str, Any], expected: tuple[str, str, float, int | None]) -> None:
    found = quantization(quantization_config=config)
    assert (found.method, found.name, found.bits, found.group_size) == expected


@pytest.mark.parametrize(
    "config",
    [
        *({"quant_method": method, "bits": bits} for method in ("gptq", "awq", "auto-round", "inc", "higgs", "spqr")
          for bits in (0, -1, 64, True, "four")),
        {"quant_method": "awq", "w_bit": -4},
        {"quant_method": "gptq", "bits": 4, "group_size": -5},
        {"quant_method": "gptq", "bits": 4, "group_size": "all"},
        {"quant_method": "gptq", "bits": 4, "dynamic": {"layers.0": {"bits": 0}}},
        {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 0, "group_size": 64}}},
        {"quant_method": "aqlm", "nbits_per_codebook": -16},
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 0}}}},
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"input_activations": {"num_bits": -8}}}},
        *({"quant_method": "fp8", "weight_block_size": block}
          for block in ([0, 128], [128, -1], [128], [], [128, 128, 128], [128, "128"], 128, "128x128")),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_by_name(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel) as error:
        quantization(quantization_config=config)
    assert re.search(r"quantization says (\w*bits?\w*|\w*group_size|weight_block_size): ", error.value.reason)


@pytest.mark.parametrize("value", [5, [], ["FP8"], "", " ", True])
def test_an_algorithm_that_is_no_name_is_not_taken_for_no_quantization(value: object) -> None:
    with pytest.raises(UnsupportedModel, match="quantization says quant_algo: "):
        quantization(quantization_config={"producer": {"name": "modelopt"}, "quantization": {"quant_algo": value}})


@pytest.mark.parametrize(
    ("algorithm", "method", "name"),
    [
        ("NONSENSE", "modelopt", "NONSENSE"),
        ("W8A8_SQ_PER_CHANNEL", "modelopt", "W8A8_SQ_PER_CHANNEL"),
        ("w4a16_awq", "modelopt", "W4A16_AWQ"),
        ("W4A16_NVFP4", "modelopt_fp4", "NVFP4"),
    ],
)
def test_an_algorithm_of_modelopt_keeps_its_name(algorithm: str, method: str, name: str) -> None:
    found = quantization(quantization_config={"quant_method": "modelopt", "quant_algo": algorithm})
    assert (found.method, found.name, found.scheme) == (method, name, algorithm.upper())


def test_gptq_limits_are_told() -> None:
    stated = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": True}
    found = quantization(tensors=GPTQ, quantization_config=stated)
    assert (found.symmetric, found.desc_act) == (False, True)


def test_g_idx_alone_separates_gptq_from_awq() -> None:
    gptq, awq = quantization(tensors=GPTQ), quantization(tensors=AWQ)
    assert (gptq.method, gptq.bits, gptq.group_size) == ("gptq", 4, 32)
    assert (awq.method, awq.bits, awq.group_size) == ("awq", 4, 32)
    assert inspect_model(hf(tensors=GPTQ)).parameters == inspect_model(hf(tensors=AWQ)).parameters == 64 * 64


def test_other_tensor_names() -> None:
    assert quantization(tensors=FP8).method == "fp8"
    blocks = {"mlp.experts.w1_blocks": ("U8", (4, 16)), "mlp.experts.w1_scales": ("U8", (4, 1))}
    assert quantization(tensors=blocks).method == "mxfp4"
    assert inspect_model(hf(tensors=blocks)).parameters == 4 * 32
    nvfp4 = {"l.weight": ("U8", (4, 32)), "l.weight_scale": ("F8_E4M3", (4, 4)), "l.weight_scale_2": ("F32", (1,))}
    assert quantization(tensors=nvfp4).method == "modelopt_fp4"
    assert inspect_model(hf(tensors=nvfp4)).parameters == 4 * 64


def test_nested_and_old_places_of_the_configuration() -> None:
    nested = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    assert quantization(text_config=nested).method == "awq"
    assert quantization(compression_config={"format": "int-quantized", "config_groups": {}}).name == "W8A8"


@pytest.mark.parametrize(
    ("path", "content", "method"),
    [
        ("hf_quant_config.json", {"producer": MODELOPT, "quantization": {"quant_algo": "FP8"}}, "modelopt"),
        ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False, "sym": True}, "gptq"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "zero_point": True, "version": "GEMM"}, "awq"),
        ("quantization_config.json", {"quant_method": "auto-round", "bits": 4}, "auto-round"),
    ],
)
def test_side_files_count_when_config_is_silent(path: str, content: dict[str, Any], method: str) -> None:
    facts = inspect_model(hf(side={path: content}))
    assert facts.quantization is not None
    assert facts.quantization.method == method
    assert any("beside config.json" in note for note in facts.notes)
    assert path in facts.files


def test_contradictions_are_noted() -> None:
    plain = inspect_model(hf(quantization_config={"quant_method": "fp8"}))
    assert any("no tensor is quantized" in note for note in plain.notes)
    hinted = inspect_model(hf(uri="hf://acme/Llama-AWQ"))
    assert hinted.quantization is None
    assert any("The name says AWQ" in note for note in hinted.notes)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"quantization_config": {"quant_method": "exl2", "bits": 4.0, "head_bits": 6}}, "EXL2"),
        ({"quantization_config": {"quant_method": "exl3"}}, "EXL3"),
        ({"tensors": {"model.layers.0.q.trellis": ("I16", (4, 4))}}, "EXL3"),
        ({"tensors": {"l.q_weight": ("I32", (4, 4)), "l.q_invperm": ("I16", (4,))}}, "EXL2"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "MLX"),
        ({"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"group_size": 64, "bits": 4}}, "MLX"),
        (
            {
                "tensors": {"l.weight": ("U32", (4, 8)), "l.scales": ("F16", (4, 1)), "l.biases": ("F16", (4, 1))},
                "metadata": {"format": "mlx"},
            },
            "MLX",
        ),
    ],
)
def test_formats_that_no_engine_loads(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(UnsupportedModel, match=word) as error:
        inspect_model(hf(**arguments))
    assert error.value.remedy


def test_mistral_format() -> None:
    weights = safetensors_bytes({"layers.0.attention.wq.weight": ("BF16", (64, 64))})
    params = b'{"dim": 64, "n_layers": 1, "head_dim": 16, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 32768}'
    files: dict[str, bytes | tuple[bytes, int]] = {"params.json": params, "consolidated.safetensors": weights}
    files["tekken.json"] = b"{}"
    facts = inspect_model(MemoryFiles(files))
    assert facts.format is ModelFormat.MISTRAL
    assert (facts.layers[0].kv_heads, facts.layers[0].k_dim, facts.vocab_size) == (2, 16, 32768)


def test_pickles_are_loaded_with_a_warning() -> None:
    files: dict[str, bytes | tuple[bytes, int]] = {"config.json": json.dumps(LLAMA).encode()}
    files["pytorch_model.bin"] = (b"PK\x03\x04", 1_000_000)
    facts = inspect_model(MemoryFiles(files))
    assert facts.format is ModelFormat.PICKLE
    assert facts.weight_bytes == 1_000_000
    assert any("run code" in note for note in facts.notes)
