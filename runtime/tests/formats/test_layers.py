"""What each layer keeps, for configurations of many families; context lengths; the bytes of a layer."""

from __future__ import annotations

from typing import Any

import pytest

from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.layers import layer_groups
from llmservice_runtime.formats.tensors import Tensor, layer_bytes

BASE = {"num_hidden_layers": 8, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
FULL, SLIDING, MLA, RECURRENT, NONE = (
    LayerKind.FULL,
    LayerKind.SLIDING,
    LayerKind.MLA,
    LayerKind.RECURRENT,
    LayerKind.NONE,
)


def groups(**config: Any) -> tuple[LayerGroup, ...]:
    return layer_groups(Config({**BASE, **config}))


def kinds(**config: Any) -> list[tuple[LayerKind, int]]:
    return [(group.kind, group.count) for group in groups(**config)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "llama"}, [(FULL, 8)]),
        ({"model_type": "mistral", "sliding_window": 32}, [(SLIDING, 8)]),
        ({"model_type": "mistral", "sliding_window": None}, [(FULL, 8)]),
        ({"model_type": "qwen2", "sliding_window": 32, "use_sliding_window": False}, [(FULL, 8)]),
        (
            {"model_type": "qwen2", "sliding_window": 32, "use_sliding_window": True, "max_window_layers": 6},
            [(FULL, 6), (SLIDING, 2)],
        ),
        ({"model_type": "gemma2", "sliding_window": 32}, [(SLIDING, 4), (FULL, 4)]),
        ({"model_type": "gemma3_text", "sliding_window": 32, "sliding_window_pattern": 4}, [(SLIDING, 6), (FULL, 2)]),
        ({"model_type": "exaone4", "sliding_window": 32, "sliding_window_pattern": "LLLG"}, [(SLIDING, 6), (FULL, 2)]),
        ({"model_type": "llama4_text", "attention_chunk_size": 64, "layer_types": ["chunked_attention"] * 6
          + ["full_attention"] * 2}, [(SLIDING, 6), (FULL, 2)]),
        ({"model_type": "jamba", "attn_layer_period": 4, "attn_layer_offset": 2, "mamba_d_state": 16},
         [(RECURRENT, 6), (FULL, 2)]),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-M-*", "ssm_state_size": 16},
         [(RECURRENT, 3), (NONE, 3), (FULL, 2)]),
        ({"model_type": "bamba", "attn_layer_indices": [3], "mamba_d_state": 16}, [(RECURRENT, 7), (FULL, 1)]),
        ({"model_type": "falcon_h1", "mamba_d_state": 16}, [(FULL, 8)]),
        ({"model_type": "minimax", "attn_type_list": [0, 0, 0, 1] * 2}, [(RECURRENT, 6), (FULL, 2)]),
        ({"model_type": "gemma3n", "num_kv_shared_layers": 3}, [(FULL, 5), (NONE, 3)]),
        ({"model_type": "lfm2", "layer_types": ["conv"] * 6 + ["full_attention"] * 2, "conv_L_cache": 3},
         [(RECURRENT, 6), (FULL, 2)]),
        ({"model_type": "kimi_linear", "kv_lora_rank": 32, "qk_rope_head_dim": 8, "linear_attn_config":
          {"full_attn_layers": [4, 8], "num_heads": 4, "head_dim": 16}}, [(RECURRENT, 6), (MLA, 2)]),
    ],
)  # fmt: skip
def test_layer_kinds(config: dict[str, Any], expected: list[tuple[LayerKind, int]]) -> None:
    assert kinds(**config) == expected


def test_dimensions_of_heads() -> None:
    assert groups()[0] == LayerGroup(FULL, 8, 2, 16, 16)
    assert groups(head_dim=32)[0].k_dim == 32
    assert groups(head_dim=32, v_head_dim=8)[0].v_dim == 8
    assert groups(multi_query=True, num_key_value_heads=None)[0].kv_heads == 1
    assert groups(num_key_value_heads=None)[0].kv_heads == 4
    assert groups(num_key_value_heads=[1] * 4 + [2] * 4)[1] == LayerGroup(FULL, 4, 2, 16, 16)
    assert groups(kv_lora_rank=512, qk_rope_head_dim=64) == (LayerGroup(MLA, 8, 1, 576, 0),)


def test_layers_of_their_own_size() -> None:
    words = (["sliding_attention"] * 3 + ["full_attention"]) * 2
    own = {"03": {"head_dim": 32}, "07": {"head_dim": 32}}
    found = groups(layer_types=words, sliding_window=64, per_layer_config=own)
    assert found == (LayerGroup(SLIDING, 6, 2, 16, 16, 64), LayerGroup(FULL, 2, 2, 32, 32))


def test_parallel_layers_keep_both() -> None:
    (group,) = groups(model_type="falcon_h1", mamba_d_ssm=128, mamba_d_state=16, mamba_d_conv=4, mamba_n_groups=1)
    assert (group.kind, group.kv_heads) == (FULL, 2)
    assert group.state_bytes == 4 * (3 * (128 + 2 * 16) + 128 * 16)


def test_bytes_of_layers_leave_other_towers_out() -> None:
    tensors = [
        Tensor("model.layers.0.mlp.experts.1.w", "F16", (1,), 10),
        Tensor("model.layers.1.q", "F16", (1,), 7),
        Tensor("model.layers.2.mtp", "F16", (1,), 5),
        Tensor("vision_tower.encoder.layers.0.q", "F16", (1,), 100),
        Tensor("model.visual.blocks.1.q", "F16", (1,), 100),
        Tensor("lm_head.weight", "F16", (1,), 3),
    ]
    assert layer_bytes(tensors, 2) == (10, 7)
    assert layer_bytes(tensors, 4) == ()
