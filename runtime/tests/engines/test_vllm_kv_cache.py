"""What vLLM allocates for a token: a checkpoint's own type, heads shared and copied, groups of layers filled up."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from llmservice_runtime.engines.vllm.kv_cache import element, kept, laid_out, said
from llmservice_runtime.engines.vllm.memory import VllmMemory
from llmservice_runtime.estimate.budget import Layout, Shape
from llmservice_runtime.estimate.kv import kv_bytes
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.formats.layers import layer_groups
from llmservice_runtime.machine.machine import Device

FULL = LayerGroup(LayerKind.FULL, 10, 8, 128, 128)
SLIDING = LayerGroup(LayerKind.SLIDING, 52, 8, 128, 128, window=1024)
LATENT = LayerGroup(LayerKind.MLA, 61, 1, 576, index_bytes=132)


def facts(*layers: LayerGroup, kv_cache: str = "") -> ModelFacts:
    return ModelFacts(
        format=ModelFormat.SAFETENSORS,
        architecture="LlamaForCausalLM",
        model_type="llama",
        task=Task.CHAT,
        quantization=Quantization("compressed-tensors", "FP8", 8, kv_cache=kv_cache),
        dtype="BF16",
        parameters=8_000_000_000,
        context_tokens=131072,
        layers=layers,
        hidden_size=4096,
        attention_heads=32,
        vocab_size=128256,
        weight_bytes=9_000_000_000,
        layer_weight_bytes=(),
        files=("model.safetensors",),
        file_bytes=9_000_000_000,
        has_chat_template=True,
        has_tokenizer=True,
    )


def allocated(model: ModelFacts, tokens: int, device: Device = Device.NVIDIA, gpus: int = 1, sequences: int = 1) -> int:
    lines = VllmMemory().lines(model, Shape(device, tokens, sequences, tokens, gpus, layout=Layout(max(1, gpus))))
    return sum(line.bytes for line in lines if line.is_cache)


@pytest.mark.parametrize(
    ("stated", "on_gpu", "on_cpu"),
    [("", 2, 2), ("FP8", 1, 2), ("NVFP4", Fraction(9, 16), 2), ("FP8 per token", 2, 2)],
)
def test_a_checkpoints_own_type_is_followed_on_gpus(stated: str, on_gpu: Fraction, on_cpu: Fraction) -> None:
    model = facts(FULL, kv_cache=stated)
    assert element(model, Device.NVIDIA) == on_gpu
    assert element(model, Device.CPU) == on_cpu
    assert allocated(model, 1600) == 1600 * 10 * 8 * 256 * on_gpu
    assert allocated(model, 1600, Device.CPU, 0) == 1600 * 10 * 8 * 256 * 2


def test_a_window_that_is_stated_anywhere_is_every_layer_s() -> None:
    """vLLM's own specs for Llama, Apertus, Cohere and 20 more (arg_utils.py: CacheConfig.sliding_window); Upstage's
    Solar Pro states one. Transformers' code for these has none."""
    root = {"model_type": "solar", "num_hidden_layers": 4, "hidden_size": 1024, "num_attention_heads": 8}
    stated = layer_groups(Config({**root, "sliding_window": 2047}))
    assert [group.kind for group in stated] == [LayerKind.FULL]
    assert [(group.kind, group.window) for group in kept(facts(*stated))] == [(LayerKind.SLIDING, 2047)]
    for off in ({}, {"use_sliding_window": False}, {"layer_types": ["full_attention"] * 4}, {"model_type": "falcon"}):
        found = layer_groups(Config({**root, "sliding_window": 2047 if off else None, **off}))
        assert {group.kind for group in kept(facts(*found))} == {LayerKind.FULL}


def test_transformers_code_keeps_latents_and_no_indexer() -> None:
    """vLLM's own specs for them: MLAAttentionSpec of 160 and 576 elements (models/transformers/base.py)."""
    indexed = LayerGroup(LayerKind.MLA, 48, 1, 160, index_bytes=132)
    lent = dataclasses.replace(facts(indexed), architecture="AXK2ForCausalLM", quantization=None)
    assert allocated(lent, 1600) == 1600 * 48 * 160 * 2
    assert allocated(dataclasses.replace(lent, architecture="DeepseekV32ForCausalLM"), 1600) == 1600 * 48 * (320 + 132)
    youtu = dataclasses.replace(
        lent, architecture="YoutuForCausalLM", layers=(dataclasses.replace(LATENT, index_bytes=0),)
    )
    assert allocated(youtu, 1600) == 1600 * 61 * 576 * 2


def test_latents_and_indexers_are_on_every_gpu_and_the_indexer_stays_8_bit() -> None:
    assert allocated(facts(LATENT), 1600) == allocated(facts(LATENT), 1600, gpus=8) == 1600 * 61 * (576 * 2 + 132)
    # Sparse attention reads latents of 656 bytes (fp8_ds_mla), dense attention as many bytes as elements.
    assert allocated(facts(LATENT, kv_cache="FP8"), 1600) == 1600 * 61 * (656 + 132)
    dense = dataclasses.replace(LATENT, index_bytes=0)
    assert allocated(facts(dense, kv_cache="FP8"), 1600) == 1600 * 61 * 576


def test_every_gpu_has_a_head_and_its_share_of_states() -> None:
    few = LayerGroup(LayerKind.FULL, 10, 2, 128, 128)
    assert allocated(facts(few), 1600, gpus=8) == allocated(facts(few), 1600, gpus=2) == 1600 * 10 * 256 * 2
    mixers = LayerGroup(LayerKind.RECURRENT, 10, state_bytes=1 << 20)
    # Two states each beside attention: mamba_cache_mode is "align" (kv_cache_interface.py: MambaSpec).
    states = allocated(facts(few, mixers), 0, gpus=1, sequences=4)
    assert states == 2 * 4 * 10 << 20
    assert allocated(facts(mixers), 0, gpus=1, sequences=4) == states // 2
    assert allocated(facts(few, mixers), 0, gpus=8, sequences=4) == states // 8


def test_kinds_of_layers_are_filled_up_to_groups_of_equal_length() -> None:
    # Gemma 3 27B: 10 full layers make groups of 10, so 52 that slide take 60 (kv_cache_utils.py).
    assert laid_out((SLIDING, FULL), Fraction(2)) == (dataclasses.replace(SLIDING, count=60), FULL)
    # 12 and 13 layers are nearly as many: groups of 13.
    near = (dataclasses.replace(SLIDING, count=12), dataclasses.replace(FULL, count=13))
    assert [group.count for group in laid_out(near, Fraction(2))] == [13, 13]
    # One kind only, or kinds that all keep every token, need no groups.
    other = dataclasses.replace(FULL, count=3, kv_heads=4)
    assert laid_out((FULL, other, LayerGroup(LayerKind.NONE, 31)), Fraction(2)) == (FULL, other)
    assert (
        kv_bytes(laid_out((SLIDING,), Fraction(2)), VllmMemory().pool(facts(SLIDING), Shape(Device.CPU, 16, 1, 16))) > 0
    )


def test_windows_are_kept_for_as_many_whole_contexts_as_the_pool_holds() -> None:
    # vLLM's own capacity: blocks are given to whoever needs them, no sequence has a window of its own laid by.
    layers = (dataclasses.replace(SLIDING, count=10), FULL)
    token = 10 * 8 * 256 * 2
    one = VllmMemory().lines(facts(*layers), Shape(Device.NVIDIA, 131072, 256, 131072, 1))
    assert sum(line.bytes for line in one if line.is_cache) == token * (131072 + 1024 + 8192)
    two = VllmMemory().lines(facts(*layers), Shape(Device.NVIDIA, 131072, 256, 2 * 131072, 1))
    assert sum(line.bytes for line in two if line.is_cache) == token * (2 * 131072 + 2 * 1024 + 8192)


def test_what_the_cache_takes_beyond_its_need_is_said() -> None:
    assert said((FULL,)) == ""
    assert "that of 70 layers, 62 need one" in said((SLIDING, FULL))
