"""What vLLM 0.32 keeps for models with recurrent states, for one sequence of 32,768 tokens on a GPU.

The figures are vLLM's own: `_max_memory_usage_bytes_from_groups` over the specs of a model that its classes made of the
configuration (bf16, prefix caching on, FlashAttention's blocks of 16). Ours are the same to the byte.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.engines.vllm.kv_cache import States, block, laid_out
from llmservice_runtime.engines.vllm.memory import VllmMemory
from llmservice_runtime.engines.vllm.options import vllm_options
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.estimate.kv import kv_bytes
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.formats.layers import layer_groups
from llmservice_runtime.machine.machine import Device

TOKENS = 32768


def shape(model_type: str, layers: int, width: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    """A configuration with the usual keys."""
    usual = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    return {"model_type": model_type, **usual, "num_key_value_heads": kv_heads, **more}


def listed(layers: int, full: tuple[int, ...], other: str, word: str = "attention") -> list[str]:
    return [word if index in full else other for index in range(layers)]


MAMBA2 = {"mamba_d_conv": 4, "mamba_expand": 2}
ZAMBA_2B = (6, 12, 18, 24, 30, 36, 42, 47, 51)
ZAMBA_7B = tuple(range(5, 81, 6))
DELTA = {"linear_num_value_heads": 32, "linear_num_key_heads": 16, "linear_key_head_dim": 128,
         "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4}  # fmt: skip

PUBLISHED: list[tuple[str, dict[str, Any], int, int]] = [
    # Zyphra/Zamba2-2.7B and -7B: 9 and 13 layers keep a state and have attention beside it
    ("Zamba2ForCausalLM", shape("zamba2", 54, 2560, 32, 32, **MAMBA2, attention_head_dim=160, mamba_d_state=64,
     mamba_ngroups=1, n_mamba_heads=80, mamba_headdim=64, layers_block_type=listed(54, ZAMBA_2B, "mamba", "hybrid")),
     6201999360, 48),
    ("Zamba2ForCausalLM", shape("zamba2", 81, 3584, 32, 32, **MAMBA2, attention_head_dim=224, mamba_d_state=64,
     mamba_ngroups=2, n_mamba_heads=112, mamba_headdim=64, layers_block_type=listed(81, ZAMBA_7B, "mamba", "hybrid")),
     12595494912, 48),
    # ai21labs/AI21-Jamba-Mini: Mamba 1, two states
    ("JambaForCausalLM", shape("jamba", 32, 4096, 32, 8, **MAMBA2, attn_layer_period=8, attn_layer_offset=4,
     mamba_d_state=16), 555745280, 80),
    # tiiuae/Falcon-H1-7B: every layer has both
    ("FalconH1ForCausalLM", shape("falcon_h1", 44, 3072, 12, 2, **MAMBA2, head_dim=128, mamba_d_state=256,
     mamba_d_ssm=3072, mamba_n_groups=1, mamba_n_heads=24, mamba_d_head=128), 1695547392, 1568),
    # ibm-granite/granite-4.0-h-small
    ("GraniteMoeHybridForCausalLM", shape("granitemoehybrid", 40, 4096, 32, 8, **MAMBA2, mamba_d_state=128,
     mamba_n_groups=1, mamba_n_heads=128, mamba_d_head=64, layer_types=listed(40, (5, 15, 25, 35), "mamba")),
     778567680, 528),
    # nvidia/Nemotron-H-8B: states of 32 bits
    ("NemotronHForCausalLM", shape("nemotron_h", 52, 4096, 32, 8, head_dim=128, ssm_state_size=128, conv_kernel=4,
     n_groups=8, mamba_num_heads=128, mamba_head_dim=64,
     hybrid_override_pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"), 851968000, 1040),
    # Qwen/Qwen3-Next-80B-A3B
    ("Qwen3NextForCausalLM", shape("qwen3_next", 48, 2048, 16, 2, head_dim=256, full_attention_interval=4, **DELTA),
     895746048, 544),
    # LiquidAI/LFM2-8B-A1B: a window of two columns takes a whole block of 16 tokens
    ("Lfm2MoeForCausalLM", shape("lfm2_moe", 24, 2048, 32, 8, conv_L_cache=3,
     layer_types=listed(24, (2, 6, 10, 14, 18, 21), "conv", "full_attention")), 403832832, 16),
]  # fmt: skip


def facts(architecture: str, *layers: LayerGroup) -> ModelFacts:
    return ModelFacts(
        ModelFormat.SAFETENSORS, architecture, "x", Task.CHAT, None, "BF16", 10**9, 131072, layers, 4096, 32, 32000,
        2 * 10**9, (), ("model.safetensors",), 2 * 10**9, True, True,
    )  # fmt: skip


def cache(model: ModelFacts, *args: str, device: Device = Device.NVIDIA, sequences: int = 1) -> int:
    """Of one pool with TOKENS tokens."""
    memory = VllmMemory(vllm_options(args))
    asked = Shape(device, TOKENS, sequences, TOKENS, 1)
    return kv_bytes(memory.layers(model, device), memory.pool(model, asked))


@pytest.mark.parametrize(("architecture", "config", "size", "tokens"), PUBLISHED, ids=lambda value: str(value)[:12])
def test_states_are_counted_as_vllm_does(architecture: str, config: dict[str, Any], size: int, tokens: int) -> None:
    layers = layer_groups(Config(config, classes=config_classes()))
    assert block(layers, Fraction(2), States(), 16) == tokens
    assert cache(facts(architecture, *layers)) == size


def test_arguments_and_devices_change_what_states_take() -> None:
    layers = layer_groups(Config(PUBLISHED[2][1], classes=config_classes()))
    model = facts("JambaForCausalLM", *layers)
    one, two = (cache(model, *args) for args in (("--no-enable-prefix-caching",), ()))
    page = 80 * 8 * 256 * 2  # one block of one layer
    assert two - one == 28 * page
    assert cache(model, "--mamba-ssm-cache-dtype=float32") == cache(model, device=Device.CPU) > two
    # More sequences, more states.
    assert cache(model, sequences=8) - two == 7 * 2 * 28 * page


def test_every_token_that_is_guessed_ahead_has_a_state() -> None:
    model = facts("JambaForCausalLM", *layer_groups(Config(PUBLISHED[2][1], classes=config_classes())))
    page = 80 * 8 * 256 * 2
    for args in (('--speculative-config={"method": "ngram", "num_speculative_tokens": 3}',), ("--spec-tokens=3",)):
        assert cache(model, *args) - cache(model) == 3 * 28 * page


def test_without_attention_there_is_one_state_and_no_blocks() -> None:
    config = {"model_type": "mamba", "num_hidden_layers": 64, "hidden_size": 2560, "state_size": 16, "conv_kernel": 4,
              "intermediate_size": 5120}  # fmt: skip
    (group,) = layer_groups(Config(config))
    assert group == LayerGroup(LayerKind.RECURRENT, 64, state_bytes=4 * 5120 * 19, mixer_bytes=2 * 5120 * 19)
    assert cache(facts("MambaForCausalLM", group)) == 64 * group.mixer_bytes


def test_what_a_decoder_attends_to_is_no_recurrent_state() -> None:
    whisper = LayerGroup(LayerKind.FULL, 4, 20, 64, 64, state_bytes=1500 * 20 * 128 * 2)
    assert laid_out([whisper], Fraction(2)) == (whisper,)


def test_types_of_states_that_a_configuration_states_are_followed() -> None:
    config = {**PUBLISHED[6][1], "model_type": "qwen3_5_text"}
    window, state = 3 * (2 * 16 * 128 + 32 * 128), 32 * 128 * 128
    for stated, width in (({}, 2), ({"mamba_ssm_dtype": "float32"}, 4), ({"mamba_ssm_dtype": "bfloat16"}, 2)):
        recurrent = layer_groups(Config({**config, **stated}))[0]
        assert (recurrent.kind, recurrent.mixer_bytes) == (LayerKind.RECURRENT, 2 * window + width * state)


def test_vllm_tells_which_models_keep_a_third_state() -> None:
    told = known().checkpointed
    assert {"Zamba2ForCausalLM", "NemotronHForCausalLM", "KimiLinearForCausalLM", "NemotronH_Nano_VL_V2"} <= told
    assert not {"JambaForCausalLM", "Qwen3NextForCausalLM", "Lfm2ForCausalLM"} & told
