"""Arguments of vLLM about the KV cache and the configuration: held against the device's kernels and the model."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.case import Case
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.vllm.contradictions import WEIGHTLESS
from llmservice_runtime.engines.vllm.owned import OWNED
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Device, Machine

VLLM = definition(EngineType.VLLM)
GIB = 1 << 30
HEADS = LayerGroup(LayerKind.FULL, 32, 8, 128, 128)
LATENTS = LayerGroup(LayerKind.MLA, 61, 1, 576)
SPARSE = LayerGroup(LayerKind.MLA, 61, 1, 576, index_bytes=132)
V4 = LayerGroup(LayerKind.MLA, 61, 1, 512, tokens_per_state=4)


def case(group: LayerGroup, where: str) -> Case:
    """Where: the name of a GPU, or the CPU."""
    facts = ModelFacts(
        ModelFormat.SAFETENSORS, "LlamaForCausalLM", "llama", Task.CHAT, None, "BF16", 10**9, 131072, (group,), 4096,
        32, 32000, 2 * 10**9, (), ("model.safetensors",), 2 * 10**9, True, True,
    )  # fmt: skip
    if where == "CPU":
        return Case(facts, Machine(8, 64 * GIB, 64 * GIB), Device.CPU)
    gpu = find_gpu(where)
    return Case(facts, Machine(8, 64 * GIB, 64 * GIB, gpus=(gpu,)), gpu.vendor, gpu)


@pytest.mark.parametrize(
    ("group", "where", "args", "said"),
    [
        (HEADS, "H100", ("--kv-cache-dtype=fp8_ds_mla",), "takes bfloat16, float16, fp8"),
        (HEADS, "H100", ("--kv-cache-dtype=nvfp4_4over6",), "compute capability 10.0"),
        (HEADS, "T4", ("--kv-cache-dtype=nvfp4",), "compute capability 8.0"),
        (HEADS, "H100", ("--kv-cache-dtype=ultraquant_4bit",), "--kv-cache-dtype=ultraquant_4bit"),
        (HEADS, "CPU", ("--kv-cache-dtype=nvfp4",), "the CPU takes fp8, fp8_e4m3, fp8_e5m2"),
        (HEADS, "CPU", ("--kv-cache-dtype=int8_per_token_head",), "the CPU takes fp8"),
        (LATENTS, "CPU", ("--kv-cache-dtype=fp8",), "latents (MLA) on the CPU takes bfloat16, float16"),
        (LATENTS, "H100", ("--kv-cache-dtype=fp8_e5m2",), "latents (MLA)"),
        (LATENTS, "A100-80GB", ("--kv-cache-dtype=fp8",), "compute capability 8.9"),
        (SPARSE, "H200", ("--kv-cache-dtype=int8_per_token_head",), "latents (MLA)"),
        (HEADS, "H100", ("--block-size=24",), "a multiple of 16 tokens"),
        (HEADS, "H100", ("--block-size=1",), "a multiple of 16 tokens"),
        (HEADS, "CPU", ("--block-size=16",), "a multiple of 32 tokens"),
        (LATENTS, "H100", ("--block-size=8",), "a multiple of 16 tokens"),
        (SPARSE, "H200", ("--block-size=16",), "a multiple of 32 tokens"),
        (HEADS, "H100", ("--kv-cache-dtype=turboquant_k8v4", "--block-size=24"), "a multiple of 16 tokens"),
    ],
)
def test_a_cache_that_no_kernel_takes_is_refused(
    group: LayerGroup, where: str, args: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        VLLM.contradiction(case(group, where), args)
    assert said in caught.value.reason
    assert caught.value.reason.startswith(f"engine.args: {args[-1]} contradicts")
    assert caught.value.remedy


def test_other_code_than_was_planned_for_is_refused() -> None:
    own = case(HEADS, "H100")
    lent = dataclasses.replace(own, facts=dataclasses.replace(own.facts, architecture="YoutuForCausalLM"))
    for planned, others in ((own, ("transformers", "terratorch")), (lent, ("vllm", "terratorch"))):
        for other in others:
            with pytest.raises(UserError, match=f"--model-impl={other} contradicts"):
                VLLM.contradiction(planned, (f"--model-impl={other}",))
    for planned, same in ((own, "vllm"), (lent, "transformers"), (own, "auto")):
        VLLM.contradiction(planned, (f"--model-impl={same}",))


@pytest.mark.parametrize(
    ("group", "where", "args"),
    [
        (HEADS, "H100", ("--kv-cache-dtype=fp8", "--block-size=32")),
        (HEADS, "A100-80GB", ("--kv-cache-dtype=fp8_e5m2",)),
        (HEADS, "B200", ("--kv-cache-dtype=nvfp4_4over6",)),
        (HEADS, "CPU", ("--kv-cache-dtype=fp8_e4m3", "--block-size=64")),
        (LATENTS, "H100", ("--kv-cache-dtype=fp8", "--block-size=64")),
        (LATENTS, "CPU", ("--block-size=16",)),
        (SPARSE, "H200", ("--kv-cache-dtype=fp8_ds_mla", "--block-size=64")),
        (V4, "H200", ("--block-size=256",)),
        (HEADS, "H100", ("--kv-cache-dtype=auto",)),
    ],
)
def test_a_cache_that_some_kernel_takes_is_planned(group: LayerGroup, where: str, args: tuple[str, ...]) -> None:
    VLLM.contradiction(case(group, where), args)


@pytest.mark.parametrize(
    "key",
    ["sliding_window", "layer_types", "kv_lora_rank", "num_nextn_predict_layers", "linear_num_value_heads", "use_mla",
     "mamba_d_state", "index_topk", "attention_chunk_size", "vision_config", "anything"],
)  # fmt: skip
@pytest.mark.parametrize("nested", [False, True])
def test_an_override_that_was_not_planned_with_is_refused_by_name(key: str, nested: bool) -> None:
    changed = {key: 1}
    text = json.dumps({"text_config": changed} if nested else changed)
    with pytest.raises(UserError, match=f"--hf-overrides changes {key}") as caught:
        VLLM.contradiction(case(HEADS, "H100"), ("--hf-overrides", text))
    assert key in (caught.value.remedy or "")


def test_an_override_that_changes_answers_only_is_taken() -> None:
    changed = {"rope_theta": 1e6, "text_config": {"num_experts_per_tok": 4}}
    VLLM.contradiction(case(HEADS, "H100"), ("--hf-overrides", json.dumps(changed)))
    # What stands inside the scaling of positions belongs to it.
    scaled = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}
    VLLM.contradiction(case(HEADS, "H100"), ("--hf-overrides", json.dumps(scaled), "--max-model-len=64k"))
    assert "sliding_window" not in WEIGHTLESS


@pytest.mark.parametrize("wrong", ["--modl", "--hst", "--prt", "--tokenizr", "--servd-model-name", "--nnods"])
def test_no_option_that_the_plan_owns_is_offered(wrong: str) -> None:
    with pytest.raises(UserError) as caught:
        VLLM.memory((f"{wrong}=1",))
    assert not [name for name in OWNED if f" {name} " in f" {(caught.value.remedy or '').replace('?', ' ')}"]


SLIDING = LayerGroup(LayerKind.SLIDING, 20, 8, 128, 128, window=1024)
STATE = LayerGroup(LayerKind.RECURRENT, 20, state_bytes=1 << 20)


def mixed(*groups: LayerGroup, model_type: str = "gemma3_text") -> Case:
    one = case(HEADS, "H100")
    return dataclasses.replace(one, facts=dataclasses.replace(one.facts, layers=groups, model_type=model_type))


@pytest.mark.parametrize(
    ("groups", "args", "said"),
    [
        ((SLIDING, HEADS), ("--disable-sliding-window",), "up to the 1,024 tokens of it"),
        ((SLIDING, HEADS), ("--disable-sliding-window", "--max-model-len=1025"), "a context of 1,025 tokens"),
        ((SLIDING,), ("--disable_sliding_window",), "up to the 1,024 tokens of it"),
        ((STATE, HEADS), ("--disable-hybrid-kv-cache-manager",), "recurrent layers beside attention"),
    ],
)
def test_windows_and_states_that_arguments_take_away_are_missed(
    groups: tuple[LayerGroup, ...], args: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        VLLM.contradiction(mixed(*groups), args)


def test_windows_that_arguments_may_take_away() -> None:
    VLLM.contradiction(mixed(SLIDING, HEADS), ("--disable-sliding-window", "--max-model-len=1024"))
    VLLM.contradiction(mixed(SLIDING, HEADS), ("--no-disable-sliding-window",))
    VLLM.contradiction(mixed(HEADS), ("--disable-sliding-window", "--disable-hybrid-kv-cache-manager"))
    VLLM.contradiction(
        mixed(SLIDING, HEADS, model_type="llama4_text"), ("--disable-sliding-window",)
    )  # chunks are no windows


def test_without_a_manager_of_several_kinds_layers_that_slide_keep_every_token() -> None:
    def kept(*args: str) -> int:
        one = mixed(SLIDING, HEADS)
        memory, asked = VLLM.memory(args), Shape(Device.NVIDIA, 131072, 1, 131072, 1)
        return sum(line.bytes for line in memory.lines(one.facts, asked) if line.is_cache)

    token = 8 * 256 * 2
    assert kept("--disable-hybrid-kv-cache-manager") == 131072 * 52 * token
    assert kept() < 131072 * 42 * token  # the whole ones fill two groups of 20
    # Some layers in 8 bits, others not: counted as if none was.
    assert kept("--kv-cache-dtype=fp8", "--kv-cache-dtype-skip-layers", "sliding_window") == kept()


def test_vllm_tells_its_kernels_of_every_platform() -> None:
    told = known().kv_caches
    assert {"CPU", "CUDA", "ROCM", "XPU"} == told.keys()
    assert all({"heads", "latents"} <= kinds.keys() for kinds in told.values())
    assert told["CUDA"]["heads"]["TRITON_ATTN"].takes("fp8", 48)
    assert not told["CUDA"]["heads"]["TRITON_ATTN"].takes("fp8", 40)
