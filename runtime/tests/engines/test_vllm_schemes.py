"""What vLLM has no code or no package for is refused by name: Quark, torchao, compressed-tensors, AutoRound."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.case import Case, first_objection
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.vllm import auto_round, compressed, compressed_experts
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.formats.quantization import quantization
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Device, Machine

GIB = 1 << 30


def facts_of(stated: dict[str, Any]) -> ModelFacts:
    return ModelFacts(
        ModelFormat.SAFETENSORS, "LlamaForCausalLM", "llama", Task.CHAT, quantization(stated), "BF16", 10**9, 131072,
        (LayerGroup(LayerKind.FULL, 32, 8, 128, 128),), 4096, 32, 32000, 2 * 10**9, (), ("model.safetensors",),
        2 * 10**9, True, True,
    )  # fmt: skip


def objection(engine: EngineType, stated: dict[str, Any], product: str = "H100", experts: int = 0) -> str:
    gpu = find_gpu(product)
    facts = replace(facts_of(stated), mixture_experts=experts)
    asked = Case(facts, Machine(8, 64 * GIB, 64 * GIB, gpus=(gpu,)), gpu.vendor, gpu)
    return first_objection(definition(engine).rules, asked) or ""


def on_cpu(stated: dict[str, Any], *flags: str, experts: int = 128) -> str:
    """What vLLM has against it on an x86 CPU with these flags and AVX2."""
    machine = Machine(8, 64 * GIB, 64 * GIB, architecture="x86_64", cpu_flags=frozenset({"avx2", *flags}))
    case = Case(replace(facts_of(stated), mixture_experts=experts), machine, Device.CPU)
    return first_objection(definition(EngineType.VLLM).rules, case) or ""


def quark(weight: Any, inputs: Any = None) -> dict[str, Any]:
    return {"quant_method": "quark", "export": {}, "global_quant_config": {"weight": weight, "input_tensors": inputs}}


def torchao(kind: str) -> dict[str, Any]:
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_data": {}}}}


def ao(kind: str, **fields: Any) -> dict[str, Any]:
    return {"default": {"_type": kind, "_version": 1, "_data": fields}}


PUBLISHED = {
    "default": {
        "_type": "ModuleFqnToConfig",
        "_version": 1,
        "_data": {
            "module_fqn_to_config": {
                "_default": {
                    "_type": "Int8DynamicActivationIntxWeightConfig",
                    "_version": 2,
                    "_data": {
                        "act_mapping_type": {"_data": "ASYMMETRIC", "_type": "MappingType"},
                        "weight_dtype": {"_data": "int4", "_type": "torch.dtype"},
                        "weight_granularity": {"_data": {"group_size": 32}, "_type": "PerGroup", "_version": 1},
                    },
                },
                "model.embed_tokens": {
                    "_type": "IntxWeightOnlyConfig",
                    "_version": 2,
                    "_data": {
                        "granularity": {"_data": {"axis": 0}, "_type": "PerAxis", "_version": 1},
                        "weight_dtype": {"_data": "int8", "_type": "torch.dtype"},
                    },
                },
            }
        },
    }
}
"""As checkpoints for phones have it."""

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
        quark(MXFP4) | {"layer_quant_config": {"*.q_proj": {"weight": FP8, "input_tensors": FP8}, "*": None}},
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
        (
            quark(MXFP4) | {"layer_quant_config": {"*.q_proj": {"weight": {"dtype": "int2"}}}},
            "scheme is int2 None / none",
        ),
        ({key: of for key, of in quark(MXFP4).items() if key != "export"}, "vLLM needs export in the configuration of"),
        (torchao("Int4WeightOnlyConfig"), "vLLM needs torchao for torchao weights, which its environment has not"),
    ],
)
def test_schemes_that_vllm_has_not_are_refused_by_name(stated: dict[str, Any], said: str) -> None:
    assert said in objection(EngineType.VLLM, stated)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"default": {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": {}}}, ""),
        # weights of earlier versions are of tensors that torchao no longer has
        (ao("Int8WeightOnlyConfig"), "whose version is Int8WeightOnlyConfig.1; near it are Int8WeightOnlyConfig.2"),
        ({"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}}, "whose version is Int4WeightOnlyConfig.1"),
        ({"default": {"_type": "SmoothQuantConfig", "_version": 7, "_data": {}}}, "version is SmoothQuantConfig.7"),
        ({"default": {"_type": "Int4WeightOnlyConfig", "_version": "2;\x1b", "_data": {}}}, "Int4WeightOnlyConfig.2;?"),
        ("int4_weight_only", "whose quant_type is int4_weight_only, only default"),
        ({"a": {}, "default": {}}, "whose quant_type is a, default, only default"),
        (PUBLISHED, ""),
        (
            ao("Int8DynamicActivationInt4WeightConfig", group_size=32),
            "whose config is Int8DynamicActivationInt4WeightConfig; near it are Int8DynamicActivationInt",
        ),
        (
            {
                "default": {
                    "_type": "Int4WeightOnlyConfig",
                    "_version": 2,
                    "_data": {"group_size": 128, "use_hqq": False},
                }
            },
            "whose field is Int4WeightOnlyConfig.use_hqq; near it are Int4WeightOnlyConfig.",
        ),
        (
            {
                "default": {
                    "_type": "FqnToConfig",
                    "_data": {"fqn_to_config": {"a": {"_type": "OldConfig", "_data": {}}}},
                }
            },
            "whose config is OldConfig; near it are",
        ),
    ],
)
def test_torchao_that_transformers_does_not_read_is_refused_by_name(kind: Any, said: str) -> None:
    told = objection(EngineType.TRANSFORMERS, {"quant_method": "torchao", "quant_type": kind})
    assert said in told if said else not told


@pytest.mark.parametrize(
    ("weight", "product", "refused"), [(FP8, "A100-80GB", True), (FP8, "L4", False), (MXFP4, "A100-80GB", False)]
)
def test_what_quark_does_has_a_floor_of_its_own(weight: dict[str, Any], product: str, refused: bool) -> None:
    said = objection(EngineType.VLLM, quark(weight, weight if weight is FP8 else None), product)
    assert ("needs compute capability 8.9" in said) == refused


def test_the_chooser_of_compressed_tensors_is_that_of_the_locked_version() -> None:
    """Generating capabilities.json asked vLLM's own with the same combinations, and these were its answers."""
    answers = hashlib.sha256()
    asked = 0
    for capability in (80, 90, 100):
        for word in compressed.everything():
            answers.update(f"{compressed.scheme(word, capability)}\n".encode())
            asked += 1
    told = known().compressed
    assert (told["asked"], told["digest"]) == (asked, answers.hexdigest())
    assert known().schemes["CompressedTensorsW8A8Fp8"] == compressed.FP8_FLOOR


def test_the_choice_for_experts_is_that_of_the_locked_version() -> None:
    """The same: vLLM's own choice was asked, with the kernels that it has on a CPU, most GPUs, and Hopper."""
    answers = hashlib.sha256()
    asked = 0
    for capability in (compressed_experts.CPU, 80, compressed.HOPPER):
        for word in compressed.everything():
            if word.endswith(" / none"):
                answers.update(f"{compressed_experts.method(word, capability)}\n".encode())
                asked += 1
    assert known().compressed["experts"] == {"asked": asked, "digest": answers.hexdigest()}


def group(layout: str, weights: dict[str, Any], inputs: Any = None, **more: Any) -> dict[str, Any]:
    """A checkpoint of compressed-tensors as llm-compressor writes it."""
    one = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None, **more}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": one}}


INT = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128, "dynamic": False}
CHANNEL = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
FLOAT = {**CHANNEL, "type": "float"}
TOKEN = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True}
STATIC = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}
NV = {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16, "dynamic": False}
BLOCK = {**FLOAT, "strategy": "block", "block_structure": [128, 128]}
ATTENTION = {"targets": ["LlamaAttention"], "input_activations": {"num_bits": 8, "type": "float"}, "weights": None}


@pytest.mark.parametrize(
    ("stated", "product"),
    [
        (group("pack-quantized", INT), "A100-80GB"),  # W4A16
        (group("pack-quantized", {**INT, "symmetric": False}), "A100-80GB"),
        (group("pack-quantized", {**INT, "actorder": "weight"}), "A100-80GB"),
        (group("int-quantized", CHANNEL, {**TOKEN, "type": "int"}), "A100-80GB"),  # W8A8
        (group("float-quantized", FLOAT, TOKEN), "L4"),  # FP8-dynamic
        (
            group(
                "float-quantized", {**FLOAT, "strategy": "tensor"}, {**TOKEN, "strategy": "tensor", "dynamic": False}
            ),
            "L4",
        ),
        (group("float-quantized", BLOCK, {**TOKEN, "strategy": "group", "group_size": 128}), "H100"),
        (group("naive-quantized", FLOAT), "A100-80GB"),
        (group("nvfp4-pack-quantized", NV, {**NV, "dynamic": "local"}), "B200"),
        (group("nvfp4-pack-quantized", NV), "A100-80GB"),
        (group("mxfp4-pack-quantized", {**NV, "strategy": "group", "group_size": 32}), "B200"),
        (group("pack-quantized", INT, TOKEN), "H100"),  # W4A8-FP8
        (group("float-quantized", {"num_bits": 8, "type": "float"}, {"num_bits": 8, "type": "float"}), "H100"),
    ],
)
def test_groups_that_vllm_has_a_scheme_for(stated: dict[str, Any], product: str) -> None:
    assert not objection(EngineType.VLLM, stated, product)
    more = {**stated, "config_groups": {**stated["config_groups"], "group_1": ATTENTION}}
    assert not objection(EngineType.VLLM, more, product), "what is of attention alone is left out"


@pytest.mark.parametrize(
    ("stated", "product", "said"),
    [
        (group("pack-quantized", INT, TOKEN), "B200", "float8 token dynamic / none on B200 (SM 10.0), only"),
        (group("pack-quantized", INT, TOKEN), "A100-80GB", "only on SM 9.0"),
        (group("pack-quantized", {**INT, "actorder": "group"}), "H100", "pack-quantized: int4 group 128 ordered"),
        (group("pack-quantized", {**INT, "actorder": True}), "H100", "ordered"),
        (group("pack-quantized", {**INT, "strategy": "tensor", "group_size": None}), "H100", "int4 tensor"),
        (group("int-quantized", INT), "H100", "int-quantized: int4 group 128 / none"),
        (group("int-quantized", {**CHANNEL, "symmetric": False}, TOKEN), "H100", "int8 channel asymmetric"),
        (group("float-quantized", {**FLOAT, "num_bits": 6}), "H100", "float6 channel"),
        (group("float-quantized", {**FLOAT, "strategy": "group", "group_size": 64}, TOKEN), "H100", "float8 group 64"),
        (group("nvfp4-pack-quantized", NV, TOKEN), "H100", "float4 tensor_group 16 / float8 token dynamic"),
        (group("nvfp4-pack-quantized", {**NV, "group_size": 32}), "H100", "float4 tensor_group 32"),
        (group("float-quantized", FLOAT, {**TOKEN, "dynamic": False}), "H100", "float8 token"),
    ],
)  # fmt: skip
def test_groups_that_vllm_has_no_scheme_for(stated: dict[str, Any], product: str, said: str) -> None:
    found = objection(EngineType.VLLM, stated, product)
    assert found.startswith("vLLM has no scheme for compressed-tensors'")
    assert said in found


INT_TOKEN = {**TOKEN, "type": "int"}
EXPERTS = {"targets": ["re:.*mlp.experts.*"]}


@pytest.mark.parametrize(
    ("stated", "product"),
    [
        (group("pack-quantized", INT), "A100-80GB"),
        (group("pack-quantized", INT), "H100"),
        (group("pack-quantized", {**INT, "num_bits": 3}), "A100-80GB"),
        (group("pack-quantized", {**CHANNEL, "num_bits": 4}), "A100-80GB"),
        (group("int-quantized", CHANNEL, INT_TOKEN), "L4"),
        (group("float-quantized", FLOAT, TOKEN), "L4"),
        (group("float-quantized", BLOCK, {**TOKEN, "strategy": "group", "group_size": 128}), "H100"),
        (group("float-quantized", {**FLOAT, "strategy": "tensor"}, STATIC), "H100"),
        (group("nvfp4-pack-quantized", NV, {**NV, "dynamic": "local"}), "B200"),
        (group("pack-quantized", INT, TOKEN), "H100"),
    ],
)
def test_experts_that_vllm_has_kernels_for(stated: dict[str, Any], product: str) -> None:
    assert not objection(EngineType.VLLM, stated, product, experts=128)


STATIC_INT8 = group("int-quantized", CHANNEL, {**STATIC, "type": "int"})
"""Scales of the activations from calibration: no experts in vLLM."""


@pytest.mark.parametrize(
    ("stated", "product", "said"),
    [
        (STATIC_INT8, "A100-80GB", "int8 channel / int8 tensor"),
        (group("naive-quantized", FLOAT), "A100-80GB", "naive-quantized: float8 channel / none"),  # W8A16
        (group("pack-quantized", {**INT, "num_bits": 8, "symmetric": False}), "H100", "int8 group 128 asymmetric"),
        (group("pack-quantized", {**CHANNEL, "num_bits": 4}), "H100", "int4 channel"),  # Marlin alone has them
        (group("float-quantized", {**FLOAT, "strategy": "tensor"}, TOKEN), "H100", "float8 tensor / float8 token"),
    ],
)
def test_experts_that_vllm_has_no_kernels_for(stated: dict[str, Any], product: str, said: str) -> None:
    assert not objection(EngineType.VLLM, stated, product), "a model without experts runs"
    found = objection(EngineType.VLLM, stated, product, experts=128)
    assert found.startswith("vLLM has no experts in compressed-tensors'")
    assert said in found


def test_experts_have_the_group_that_names_them_or_none() -> None:
    fp8 = group("float-quantized", FLOAT, TOKEN)
    both = {**fp8, "config_groups": {**STATIC_INT8["config_groups"], "group_1": {**fp8["config_groups"]["group_0"]}}}
    both["config_groups"]["group_1"] |= EXPERTS
    assert not objection(EngineType.VLLM, both, "H100", experts=128)
    swapped = {**fp8, "config_groups": {"group_0": {**STATIC_INT8["config_groups"]["group_0"], **EXPERTS}}}
    assert "int8 tensor" in objection(EngineType.VLLM, swapped, "H100", experts=128)
    left_out = {**STATIC_INT8, "ignore": ["lm_head", "re:.*mlp.experts.*"]}
    assert not objection(EngineType.VLLM, left_out, "H100", experts=128)
    shared = {**STATIC_INT8, "ignore": ["re:.*mlp.shared_experts.*"]}
    assert objection(EngineType.VLLM, shared, "H100", experts=128)


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors"])
def test_experts_of_few_bits_need_amx_on_cpus(method: str) -> None:
    stated = {"gptq": GPTQ, "awq": AWQ, "compressed-tensors": group("pack-quantized", INT)}[method]
    assert "with AMX only" in on_cpu(stated)
    assert not on_cpu(stated, "amx_tile")
    assert not on_cpu(stated, experts=0)


def test_experts_of_auto_round_are_for_gpus() -> None:
    stated = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}
    assert "on GPUs only" in on_cpu(stated, "amx_tile")
    assert not on_cpu(stated, experts=0)
    assert not objection(EngineType.VLLM, stated, experts=128)


def test_experts_on_cpus_have_groups_of_their_own() -> None:
    assert "group 32 / none / none on " in on_cpu(group("pack-quantized", {**INT, "group_size": 32}), "amx_tile")
    assert not on_cpu(group("pack-quantized", {**INT, "group_size": 32}), "amx_tile", experts=0)


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


@pytest.mark.parametrize(
    ("stated", "key", "said"),
    [
        (GPTQ, "sym", "sym"),
        (GPTQ, "desc_act", "desc_act"),
        (GPTQ, "group_size", "group_size"),
        (AWQ, "zero_point", "zero_point"),
        (AWQ, "group_size", "q_group_size or group_size"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "activation_scheme", "activation_scheme"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "quant_algo", "quant_algo"),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}, "quant_algo", "quant_algo"),
    ],
)
def test_what_vllm_can_not_do_without(stated: dict[str, Any], key: str, said: str) -> None:
    assert not objection(EngineType.VLLM, stated)
    assert said in objection(EngineType.VLLM, {name: value for name, value in stated.items() if name != key})


def test_mxfp8_needs_no_algorithm() -> None:
    assert not objection(EngineType.VLLM, {"quant_method": "mxfp8", "ignored_layers": []}, "B200")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({**AWQ, "group_size": 256}, "group_size is 256"),
        ({**AWQ, "bits": 8}, "AWQ with 4 bits"),
        ({**GPTQ, "group_size": 16}, "group_size is 16"),
        ({**GPTQ, "bits": 3}, "GPTQ with 4 or 8 bits"),
        ({**GPTQ, "desc_act": True}, "act-order in groups"),
        ({**GPTQ, "dynamic": {"+:.*[.]1[.].*": {"bits": 3}}}, "dynamic.bits is 3"),
        ({**GPTQ, "dynamic": {"+:.*[.]1[.].*": {"desc_act": True}}}, "dynamic.desc_act is True"),
    ],
)
def test_widths_and_groups_that_vllm_has_not(stated: dict[str, Any], said: str) -> None:
    assert said in objection(EngineType.VLLM, stated)


def test_rules_for_layers_that_vllm_takes() -> None:
    rules = {"-:.*visual.*": {}, "+:.*[.]1[.].*": {"bits": 8, "group_size": 64, "desc_act": False}}
    assert not objection(EngineType.VLLM, {**GPTQ, "dynamic": rules})


def test_bitsandbytes_is_of_one_width() -> None:
    with pytest.raises(UnsupportedModel, match="exclude each other"):
        quantization({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": True})


@pytest.mark.parametrize("block", [[128, 128], "128x128"])
def test_blocks_of_compressed_tensors_as_list_or_text(block: Any) -> None:
    found = quantization(group("float-quantized", {**BLOCK, "block_structure": block}, TOKEN))
    assert found is not None
    assert found.group_size == 128


def test_what_is_read_of_auto_round_is_what_the_locked_version_reads() -> None:
    answers = [auto_round.takes(word, cpu) for cpu in (True, False) for word in auto_round.everything()]
    digest = hashlib.sha256("".join(f"{answer}\n" for answer in answers).encode()).hexdigest()
    assert known().auto_round == {"asked": len(answers), "digest": digest}


ROUNDED = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "data_type": "int",
           "packing_format": "auto_round:auto_gptq", "autoround_version": "0.9.0"}  # fmt: skip
MICRO = {**ROUNDED, "data_type": "mx_fp", "group_size": 32, "packing_format": "auto_round:llm_compressor"}
BLOCKS = {**ROUNDED, "data_type": "fp", "bits": 8, "group_size": [128, 128], "packing_format": "auto_round:fp8"}
MOVING = {"act_bits": 8, "act_sym": True, "act_dynamic": True}
"""What AutoRound writes of what goes into layers, beside its kind and groups."""


@pytest.mark.parametrize(
    "stated",
    [
        ROUNDED,
        {**ROUNDED, "bits": 2},
        {**ROUNDED, "bits": 3, "group_size": 64},
        {**ROUNDED, "packing_format": "auto_round:auto_awq", "sym": False},
        {key: value for key, value in ROUNDED.items() if key not in ("packing_format", "data_type")},
        MICRO,
        {**MICRO, "bits": 8},
        BLOCKS,
        {**MICRO, "bits": 8, **MOVING, "act_group_size": 32, "act_data_type": "mx_fp"},
        {
            **BLOCKS,
            **MOVING,
            "act_group_size": 128,
            "act_data_type": "fp",
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
        },
        {**MICRO, "act_bits": 4, "act_dynamic": True, "act_data_type": "mx_fp_rceil"},  # not looked at
        {**ROUNDED, "act_bits": 16},
        {**ROUNDED, "extra_config": {"lm_head": {"bits": 16, "data_type": "float"}, "a.gate": {"bits": 8}}},
        {**ROUNDED, "bits": 2, "extra_config": {"model.layers.0.self_attn.q_proj": {"bits": 4, "group_size": 32}}},
    ],
)
def test_checkpoints_of_auto_round_that_vllm_reads(stated: dict[str, Any]) -> None:
    assert not objection(EngineType.VLLM, stated, "B200")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({**ROUNDED, "sym": False}, "int 4 128 asymmetric auto_round:auto_gptq auto"),
        ({**ROUNDED, "bits": 8, "packing_format": "auto_round:auto_awq"}, "int 8 128 auto_round:auto_awq auto"),
        ({**ROUNDED, "group_size": 256}, "int 4 256"),
        ({**ROUNDED, "packing_format": "auto_round:fp8"}, "int 4 128 auto_round:fp8"),
        ({**ROUNDED, "backend": "gptq"}, "auto_round:auto_gptq gptq"),
        ({**ROUNDED, "data_type": "nv_fp"}, "nv_fp 4 128"),
        ({**MICRO, "group_size": 16}, "mx_fp 4 16"),
        ({**MICRO, "sym": False}, "mx_fp 4 32 asymmetric"),
        ({**BLOCKS, "group_size": 128}, "fp 8 128 auto_round:fp8"),
        ({**BLOCKS, "sym": False}, "fp 8 128x128 asymmetric"),
        ({**ROUNDED, "extra_config": {"a.q_proj": {"bits": 8, "sym": False}}}, "int 8 128 asymmetric"),
        ({**ROUNDED, "extra_config": {"a.b": {"bits": 16}, "a.k_proj": {"group_size": 256}}}, "int 4 256"),
        ({**BLOCKS, "extra_config": {"a.down_proj": {"group_size": 128}}}, "fp 8 128 auto_round:fp8"),
    ],
)
def test_checkpoints_of_auto_round_that_vllm_does_not_read(stated: dict[str, Any], said: str) -> None:
    found = objection(EngineType.VLLM, stated, "B200")
    assert found.startswith("vLLM does not read AutoRound's weights as ")
    assert said in found


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({**BLOCKS, "act_bits": 16}, "only where act_bits is 8, not act_bits 16."),
        ({**BLOCKS, **MOVING, "act_dynamic": False}, "only where act_dynamic is True, not act_dynamic False."),
        ({**BLOCKS, "activation_scheme": "static"}, "only where activation_scheme is dynamic"),
        ({**BLOCKS, "act_group_size": -1}, "only where act_group_size is 128"),
        ({**BLOCKS, "act_bits": None}, "not act_bits None."),
        ({**MICRO, "bits": 8, "act_data_type": "mx_fp_rceil"}, "only where act_data_type is mx_fp,"),
    ],
)
def test_what_auto_round_does_to_what_goes_into_layers(stated: dict[str, Any], said: str) -> None:
    found = objection(EngineType.VLLM, stated, "B200")
    assert found.startswith("vLLM takes AutoRound's weights as ") and said in found


@pytest.mark.parametrize(
    ("stated", "runs"),
    [
        (GPTQ, True),
        ({**GPTQ, "bits": 8}, False),
        (group("pack-quantized", INT), True),
        (group("pack-quantized", {**INT, "num_bits": 8}), False),
        (group("pack-quantized", {**INT, "num_bits": 2}), False),
        (group("int-quantized", CHANNEL, INT_TOKEN), True),
    ],
)
def test_weights_alone_on_amd_have_4_bits(stated: dict[str, Any], runs: bool) -> None:
    """Of vLLM's kernels for them Marlin and Machete are NVIDIA's."""
    assert (objection(EngineType.VLLM, stated, "MI300X") == "") is runs
    assert not objection(EngineType.VLLM, stated, "H100")
