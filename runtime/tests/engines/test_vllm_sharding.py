"""How GPUs share a model in vLLM: what its layers divide, and pipelines where they can't."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_runtime.engines.vllm.memory import VllmMemory
from llmservice_runtime.engines.vllm.options import vllm_options
from llmservice_runtime.engines.vllm.sharding import Sharing, is_pipelined, layouts, objection
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import GPU, Layout, Shape, total
from llmservice_runtime.estimate.stages import heaviest, longest, stages
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.facts import (
    LayerGroup,
    LayerKind,
    ModelFacts,
    ModelFormat,
    Quantization,
    Task,
    Width,
    WidthKind,
)
from llmservice_runtime.formats.quantization import quantization
from llmservice_runtime.formats.widths import widths
from llmservice_runtime.machine.machine import Device

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}}},
}
CT_BLOCKS = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float", "block_structure": [128, 128]}}},
}
MXFP4 = {"quant_method": "mxfp4"}


def facts(architecture: str = "LlamaForCausalLM", /, **keys: Any) -> ModelFacts:
    """As headers with this config.json give them, of 1 GiB of weights."""
    usual = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000}
    config = Config({"architectures": [architecture], **usual, **keys})
    raw = config.get("quantization_config")
    heads = config.integer("num_key_value_heads") or config.heads
    return ModelFacts(
        format=ModelFormat.SAFETENSORS,
        architecture=architecture,
        model_type=config.model_type,
        task=Task.CHAT,
        quantization=quantization(raw) if raw else None,
        dtype="BF16",
        parameters=1 << 29,
        context_tokens=32768,
        layers=(LayerGroup(LayerKind.FULL, config.layers, heads, 128, 128),),
        hidden_size=config.hidden,
        attention_heads=config.heads,
        vocab_size=config.integer("vocab_size"),
        weight_bytes=1 << 30,
        layer_weight_bytes=(),
        files=("model.safetensors",),
        file_bytes=1 << 30,
        has_chat_template=True,
        has_tokenizer=True,
        mixture_experts=config.integer("num_experts", "num_local_experts", "n_routed_experts"),
        widths=widths(config),
    )


def tensor_sizes(model: ModelFacts, most: int = 16) -> list[int]:
    return [n for n in range(1, most + 1) if not objection(model, Layout(n), Sharing())]


QWEN72 = {"hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8}
WIDE = {**QWEN72, "intermediate_size": 29568}
PADDED = {**QWEN72, "intermediate_size": 29696}
MQA = {"num_attention_heads": 48, "num_key_value_heads": 1, "vocab_size": 49152}
GQA = {"num_attention_heads": 32, "num_key_value_heads": 8}
PHI4 = {
    "hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 10, "intermediate_size": 17920,
    "vocab_size": 100352,
}  # fmt: skip
GPT_OSS = {
    "num_local_experts": 128, "intermediate_size": 2880, "hidden_size": 2880, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "quantization_config": MXFP4,
}  # fmt: skip
DEEPSEEK = {
    "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 1,
    "v_head_dim": 128, "vocab_size": 129280, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "n_routed_experts": 256, "n_shared_experts": 1, "first_k_dense_replace": 3,
}  # fmt: skip
QWEN3_MOE = {
    "hidden_size": 2048, "head_dim": 128, "num_key_value_heads": 4, "num_experts": 128, "intermediate_size": 6144,
    "vocab_size": 151936,
}  # fmt: skip
BLOCKED = {**QWEN3_MOE, "quantization_config": BLOCKS}
BLOCKED_768 = {**BLOCKED, "moe_intermediate_size": 768}
MOE_768 = {**QWEN3_MOE, "moe_intermediate_size": 768}
MIXTRAL = {"num_local_experts": 8, "intermediate_size": 14336, "num_key_value_heads": 8}


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [
        # Qwen2.5-72B: 29568 = 231 groups of 128 (vllm-project/vllm#21695); unquantized any that divides the heads
        (WIDE, [1, 2, 4, 8, 16]),
        ({**WIDE, "quantization_config": AWQ}, [1]),
        ({**WIDE, "quantization_config": GPTQ}, [1]),
        ({**WIDE, "quantization_config": PACKED}, [1]),
        # The same padded to 29696 = 232 groups, as Qwen publishes its own GPTQ and AWQ
        ({**PADDED, "quantization_config": AWQ}, [1, 2, 4, 8]),
        # phi-4: the vocabulary of 100352 does not go by 5, ten KV heads not by 4 and 8
        (PHI4, [1, 2]),
        # A vocabulary that its padding to 64 makes divisible: 32003 -> 32064 = 501 * 64
        ({"num_attention_heads": 96, "vocab_size": 32003, "intermediate_size": 11520}, [1, 2, 3, 4, 6, 8, 12, 16]),
        # One KV head is copied; six are divided by 2 and 3, or copied to 6 and 12
        (MQA, [1, 2, 3, 4, 6, 8, 12, 16]),
        ({**MQA, "num_key_value_heads": 6}, [1, 2, 3, 6, 12]),
        # Experts in blocks of 128 are refined to 32 (vllm fused_moe/oracle/fp8.py)
        ({**BLOCKED, "moe_intermediate_size": 320}, [1, 2]),
        (BLOCKED_768, [1, 2, 4, 8]),
        # Those of compressed-tensors are not (compressed_tensors_moe_w8a8_fp8.py): 768 is 6 blocks, 2048 is 16
        ({**MOE_768, "quantization_config": CT_BLOCKS}, [1, 2]),
        ({**QWEN3_MOE, "moe_intermediate_size": 2048, "quantization_config": CT_BLOCKS}, [1, 2, 4, 8, 16]),
        ({**MOE_768, "quantization_config": AWQ}, [1, 2, 4, 8]),
        ({**MOE_768, "quantization_config": PACKED}, [1, 2]),
        # Ordinary layers among them take whole blocks; the width of none counts nothing
        ({**BLOCKED_768, "intermediate_size": 6272}, [1, 2, 4, 8]),
        ({**BLOCKED_768, "intermediate_size": 6272, "mlp_only_layers": [0]}, [1]),
        ({**BLOCKED_768, "shared_expert_intermediate_size": 512}, [1, 2, 4]),
        # DeepSeek-V3: 18432 and 2048 in blocks of 128
        ({**DEEPSEEK, "quantization_config": BLOCKS}, [1, 2, 4, 8, 16]),
        # Fewer experts than GPUs
        ({"num_experts": 4, "moe_intermediate_size": 1024, "num_key_value_heads": 8}, [1, 2, 4]),
        # Mixtral: intermediate_size is the experts'
        ({**MIXTRAL, "quantization_config": AWQ}, [1, 2, 4, 8]),
        # The shared expert is an ordinary layer of so many experts' width: 1536 = 12 blocks of 128
        ({**BLOCKED, "moe_intermediate_size": 1536, "n_shared_experts": 1}, [1, 2, 4]),
        # Where nothing else is stated the experts have the usual width: 14400 = 450 * 32
        ({**MIXTRAL, "intermediate_size": 14400, "quantization_config": BLOCKS}, [1, 2]),
        # Widths under other names than intermediate_size
        ({**GQA, "ffn_dim": 11264, "quantization_config": BLOCKS}, [1, 2, 4, 8]),
        # Hunyuan-A13B lists its experts' sizes per layer, the shared one's too
        ({"num_experts": 64, "moe_intermediate_size": [768] * 32, "num_shared_expert": [1] * 32,
          "num_key_value_heads": 8, "quantization_config": BLOCKS}, [1, 2]),
        # gpt-oss: its experts are padded to whole groups; 2880 goes by 16
        (GPT_OSS, [1, 2, 4, 8, 16]),
        # Linear attention as in Qwen3-Next has heads of its own
        ({**GQA, "linear_num_key_heads": 12, "linear_num_value_heads": 24}, [1, 2, 4]),
        # Mamba's groups: one is copied, several are divided
        ({**GQA, "mamba_n_heads": 128, "mamba_n_groups": 1}, [1, 2, 4, 8, 16]),
        ({**GQA, "mamba_n_heads": 128, "mamba_n_groups": 2}, [1, 2]),
        # What sees: 3420 of Qwen2.5-VL does not go by 8
        ({**QWEN72, "vision_config": {"intermediate_size": 3420}}, [1, 2, 4]),
        # Twelve heads that see (GLM-4.5V); InternViT's 25 are filled up
        ({**QWEN72, "vision_config": {"model_type": "glm4v_moe_vision", "num_heads": 12}}, [1, 2, 4]),
        ({**QWEN72, "vision_config": {"model_type": "intern_vit_6b", "num_attention_heads": 25}}, [1, 2, 4, 8, 16]),
        # Qwen 1's intermediate_size is gate and up together
        ({"model_type": "qwen", "intermediate_size": 22016 // 2}, [1, 2, 4, 8, 16]),
    ],
)  # fmt: skip
def test_sizes_that_share_every_layer(keys: dict[str, Any], sizes: list[int]) -> None:
    assert tensor_sizes(facts(**keys)) == sizes


@pytest.mark.parametrize(("method", "sizes"), [(CT_BLOCKS, [1, 2, 4]), (BLOCKS, [1, 2, 4, 8])], ids=["ct", "fp8"])
def test_whole_blocks_of_keys_come_out_of_each_gpu(method: dict[str, Any], sizes: list[int]) -> None:
    """Eight KV heads of 64: one of them is half a block, which vLLM's own FP8 allows (linear.py) and compressed-tensors
    does not (fp8_utils.py)."""
    small = facts(
        hidden_size=2048, head_dim=64, num_key_value_heads=8, intermediate_size=8192, quantization_config=method
    )
    small = dataclasses.replace(small, layers=(LayerGroup(LayerKind.FULL, 16, 8, 64, 64),))
    assert tensor_sizes(small, 8) == sizes


def test_what_can_not_be_divided_is_named() -> None:
    awq = facts(intermediate_size=29568, quantization_config=AWQ, num_key_value_heads=8)
    assert objection(awq, Layout(2), Sharing()) == (
        "intermediate_size 29568, in steps of 128 (AWQ-Int4), can't be divided among 2 GPUs"
    )
    assert "32 attention heads can't be divided among 3 GPUs" in objection(facts(), Layout(3), Sharing())


def test_whole_experts_on_each_gpu_and_towers_on_all() -> None:
    moe = facts(**QWEN3_MOE, moe_intermediate_size=320, quantization_config=BLOCKS)
    assert not objection(moe, Layout(8), vllm_options(["-ep"]).sharing)
    assert objection(moe, Layout(2, copies=2), Sharing()), "copies share the experts: 320 over 4"
    assert not objection(moe, Layout(2, copies=2), vllm_options(["--enable-expert-parallel"]).sharing)
    sees = facts(num_key_value_heads=8, vision_config={"intermediate_size": 3420})
    assert not objection(sees, Layout(8), vllm_options(["--mm-encoder-tp-mode=data"]).sharing)


def test_pipelines_where_layers_can_not_be_shared() -> None:
    awq = facts(num_hidden_layers=80, intermediate_size=29568, quantization_config=AWQ, num_key_value_heads=8)
    assert layouts(awq, 3, Sharing()) == (Layout(1, 3),)
    assert layouts(awq, 8, Sharing()) == (Layout(1, 8),)
    phi = facts(num_attention_heads=40, num_key_value_heads=10, vocab_size=100352)
    assert layouts(phi, 6, Sharing()) == (Layout(2, 3), Layout(1, 6))
    assert layouts(facts(num_hidden_layers=4), 5, Sharing()) == ()


def test_only_architectures_that_say_so_are_pipelines() -> None:
    assert is_pipelined("LlamaForCausalLM")
    assert not is_pipelined("Gemma3nForCausalLM")
    assert not is_pipelined("")
    assert known().pipelined & known().architectures.keys()
    assert layouts(facts("Gemma3nForCausalLM"), 3, Sharing()) == ()
    lent = next(iter(known().by_transformers))
    assert is_pipelined(lent), "Transformers' code is a pipeline by its plan"


@given(st.integers(1, 200), st.integers(1, 16))
def test_stages_hold_every_layer_and_differ_by_one(layers: int, count: int) -> None:
    sizes = stages(layers, min(layers, count))
    assert sum(sizes) == layers
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) < 3 or sizes[-1] == min(sizes), "the last has the output matrix too"


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(0, 5000), st.integers(1, 8))
def test_the_fullest_stage_is_no_less_than_its_share(layers: list[int], outside: int, count: int) -> None:
    model = dataclasses.replace(
        facts(num_hidden_layers=len(layers)),
        weight_bytes=sum(layers) + outside,
        layer_weight_bytes=tuple(layers),
    )
    count = min(count, len(layers))
    most = heaviest(model, model.weight_bytes, count)
    assert -(-model.weight_bytes // count) <= most <= model.weight_bytes
    assert longest(model, count) >= -(-len(layers) // count)


_SIZE = st.integers(1, 400).map(lambda n: n * 64)


@settings(max_examples=200)
@given(
    heads=st.integers(1, 128),
    kv=st.integers(1, 32),
    vocabulary=st.integers(1, 300_000),
    dense=_SIZE,
    experts=st.none() | _SIZE,
    group=st.sampled_from([0, 32, 64, 128]),
    method=st.sampled_from(["awq", "gptq", "fp8", "compressed-tensors"]),
    gpus=st.integers(1, 16),
    whole=st.booleans(),
)
def test_a_way_to_share_divides_all_that_the_engine_divides(
    heads: int,
    kv: int,
    vocabulary: int,
    dense: int,
    experts: int | None,
    group: int,
    method: str,
    gpus: int,
    whole: bool,
) -> None:
    model = dataclasses.replace(
        facts(),
        attention_heads=heads * kv,
        vocab_size=vocabulary,
        layers=(LayerGroup(LayerKind.FULL, 40, kv, 128, 128),),
        mixture_experts=64 if experts else 0,
        quantization=Quantization(method, method, 4, group_size=group) if group else None,
        widths=(
            Width("intermediate_size", dense, WidthKind.DENSE),
            *([Width("moe_intermediate_size", experts, WidthKind.EXPERT)] if experts else []),
        ),
    )
    found = layouts(model, gpus, Sharing(whole_experts=whole))
    assert Layout(1, gpus) in found
    for layout in found:
        parts = layout.tensor
        assert layout.gpus == gpus
        assert heads * kv % parts == 0
        assert kv % parts == 0 or parts % kv == 0
        assert -(-vocabulary // 64) * 64 % parts == 0
        if parts > 1:
            assert dense % (parts * max(1, group)) == 0
        if experts and parts > 1 and not whole:
            finest = group if method == "compressed-tensors" else min(32, group)
            assert experts // parts * parts == experts
            assert experts // parts % max(1, finest) == 0


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]), st.integers(1, 4))
def test_more_gpus_never_hold_more_each(tensor: int, pipeline: int, copies: int) -> None:
    model = facts(num_key_value_heads=8, intermediate_size=14336)

    def each(layout: Layout) -> int:
        shape = Shape(Device.NVIDIA, 4096, 4, 16384, gpus=layout.gpus, layout=layout)
        return total(VllmMemory().lines(model, shape), GPU)

    here = each(Layout(tensor, pipeline, copies))
    assert each(Layout(tensor * 2, pipeline, copies)) <= here
    assert each(Layout(tensor, pipeline * 2, copies)) <= here
    assert each(Layout(tensor, pipeline, copies + 1)) == here, "a copy of a dense model is a whole one"
