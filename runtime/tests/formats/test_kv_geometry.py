"""Bytes of KV cache per token, for a published model of every family whose cache departs from the usual.

The figures follow from the published config.json and the code that allocates the cache (vLLM 0.32, named beside each):
2 bytes an element, all GPUs together, what one more token of a long context costs. vLLM's own cache specs,
     asked with the
default configurations of these families, give the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.estimate.kv import bytes_per_token
from llmservice_runtime.formats import layers
from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.layers import grouped, layer_groups
from llmservice_runtime.formats.patterns import layer_words


def shape(
    model_type: str, layers: int, width: int, heads: int, kv_heads: int | None = None, **more: Any
) -> dict[str, Any]:
    """A configuration with the usual keys."""
    usual = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }
    return {"model_type": model_type, **usual, **more}


def searched(layers: Sequence[int | str], heads: int, width: int) -> dict[str, Any]:
    """A Nemotron found by architecture search: attention heads that share a KV head, `no_op`, or `linear`."""
    attention = [
        {"n_heads_in_group": kind if isinstance(kind, int) else None, "no_op": kind == "no_op",
         "replace_with_linear": kind == "linear"} for kind in layers
    ]  # fmt: skip
    return shape("nemotron-nas", len(layers), width, heads, block_configs=[{"attention": one} for one in attention])


DEEPSEEK = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
DSA = {**DEEPSEEK, "index_head_dim": 128, "index_topk": 2048}
MIMO = {
    "head_dim": 192, "v_head_dim": 128, "swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128,
    "sliding_window": 128, "attention_chunk_size": 128,
}  # fmt: skip
STEP_SLIDES = {
    "attention_type": "sliding_attention",
    "num_attention_heads": 96,
    "num_attention_groups": 8,
    "head_dim": 128,
}
LLAMA4 = {"head_dim": 128, "attention_chunk_size": 8192}
GEMMA4 = {"head_dim": 256, "global_head_dim": 512, "sliding_window": 1024}

PUBLISHED: list[tuple[str, dict[str, Any], int]] = [
    # nvidia/Llama-3_3-Nemotron-Super-49B-v1: 49 of 80 layers have attention, 8 query heads share one (nemotron_nas.py)
    ("nemotron super 49b", searched([8] * 49 + ["no_op"] * 31, 64, 8192), 49 * 8 * 256 * 2),
    # nvidia/Llama-3_1-Nemotron-51B: groups of 8, 16 and 32 heads, linear layers (nemotron_nas.py)
    ("nemotron 51b", searched([8] * 40 + [16] * 10 + [32] * 4 + ["linear"] * 8 + ["no_op"] * 18, 64, 8192),
     (40 * 8 + 10 * 4 + 4 * 2) * 256 * 2),
    # databricks/dbrx-instruct (dbrx.py: attn_config.kv_n_heads; one where none is stated)
    ("dbrx, one head", {"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "attn_config": {}},
     40 * 256 * 2),
    ("dbrx", {"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "attn_config": {"kv_n_heads": 8}},
     163840),
    # stepfun-ai/step3: one KV head of 256 (step3_text.py: num_attention_groups)
    ("step3", {"text_config": shape("step3_text", 61, 7168, 64, num_attention_groups=1, head_dim=256)}, 62464),
    # stepfun-ai/Step-3.5-Flash: every 4th of 45 layers is full, the list goes on for 3 layers of MTP (step3p5.py)
    ("step 3.5", shape("step3p5", 45, 4096, 64, num_attention_groups=8, head_dim=128, num_nextn_predict_layers=3,
     sliding_window=512, attention_other_setting=STEP_SLIDES,
     layer_types=(["full_attention"] + ["sliding_attention"] * 3) * 12), 12 * 8 * 256 * 2),
    # XiaomiMiMo/MiMo-V2-Flash: 9 of 48 full, K of 192 and V of 128 (mimo_v2.py: hybrid_layer_pattern)
    ("mimo v2 flash", shape("mimo_v2_flash", 48, 4096, 64, 4, **MIMO,
     hybrid_layer_pattern=[0] + [1] * 4 + ([0] + [1] * 5) * 7 + [0]), 23040),
    # meituan-longcat/LongCat-Flash-Chat: two attentions in each of 28 layers (longcat_flash.py)
    ("longcat", {"model_type": "longcat_flash", "num_layers": 28, "hidden_size": 6144, "num_attention_heads": 64,
     **DEEPSEEK},
     2 * 28 * 576 * 2),
    # deepseek-ai/DeepSeek-V3 (deepseek_v2.py), the layer of MTP does not count
    ("deepseek v3", shape("deepseek_v3", 61, 7168, 128, 128, num_nextn_predict_layers=1, **DEEPSEEK), 61 * 576 * 2),
    # deepseek-ai/DeepSeek-V3.2: beside it 128 8-bit values and a scale (deepseek_v2.py: DeepseekV32IndexerCache)
    ("deepseek v3.2", shape("deepseek_v32", 61, 7168, 128, 128, **DSA), 78324),
    # zai-org/GLM-5: 78 layers with an indexer each (the same file)
    ("glm 5", shape("glm_moe_dsa", 78, 6144, 64, 64, **DSA), 78 * (576 * 2 + 132)),
    # the same, of which only every 4th layer has an indexer of its own
    ("shared indexers", shape("glm_moe_dsa", 80, 6144, 64, 64, **DSA, index_topk_freq=4), 80 * 1152 + 21 * 132),
    ("listed indexers", shape("hy_v4", 4, 6144, 64, 64, **DSA, indexer_types=["full", "shared", "shared", "full"]),
     4 * 1152 + 2 * 132),
    # MiniMaxAI/MiniMax-M3: 57 of 60 layers have an indexer's key of 128 in 16 bits (models/minimax_m3)
    ("minimax m3", shape("minimax_m3_vl_text", 60, 6144, 64, 4, head_dim=128, sparse_attention_config={
     "sparse_attention_freq": [0] * 3 + [1] * 57, "sparse_index_dim": 128}), 60 * 4 * 256 * 2 + 57 * 256),
    # pools of tokens share an indexer's key (models/glm5next), groups of tokens too (models/qwen4_exp)
    ("glm 5 next", shape("glm5_next_text", 8, 4096, 32, 32, **DSA, index_kpool=4), 2 * (576 * 2 + 33)),
    ("qwen 4", shape("qwen4_exp_text", 40, 2048, 16, 2, head_dim=256, indexer_head_dim=128, indexer_compress_ratio=4),
     10 * (2 * 512 * 2 + 64)),
    # rows of full layers are as wide as those that slide (models/dots3_note)
    ("dots 3 note", shape("dots3_note_text", 6, 4096, 64, 64, **DSA, sliding_window=513, swa_kv_lora_rank=1024,
     swa_qk_rope_head_dim=64), 3 * (1088 * 2 + 132)),
    # openbmb/MiniCPM3-4B: keys and values of all 40 heads, values padded to 96 (minicpm3.py)
    ("minicpm3", shape("minicpm3", 62, 2560, 40, 40, kv_lora_rank=256, qk_nope_head_dim=64, qk_rope_head_dim=32,
     v_head_dim=64),
     62 * 40 * 2 * 96 * 2),
    # deepseek-ai/deepseek-vl2-tiny: the family without latents (deepseek_v2.py: use_mla)
    ("deepseek vl2 tiny", {"language_config": shape("deepseek_v2", 12, 1280, 10, 10, kv_lora_rank=None, use_mla=False,
     qk_nope_head_dim=0, qk_rope_head_dim=0, v_head_dim=0)}, 12 * 10 * 2 * 128 * 2),
    # meta-llama/Llama-4-Scout: every 4th of 48 is full (llama4.py: no_rope_layers)
    ("llama 4", shape("llama4_text", 48, 5120, 40, 8, **LLAMA4), 49152),
    ("llama 4, listed", shape("llama4_text", 48, 5120, 40, 8, **LLAMA4, no_rope_layers=[1, 1, 1, 0] * 12), 49152),
    ("llama 4, other window", shape("llama4_text", 48, 5120, 40, 8, **LLAMA4, sliding_window=512), 49152),
    ("llama 4, interval", shape("llama4_text", 48, 5120, 40, 8, **LLAMA4, no_rope_layer_interval=6), 8 * 8 * 256 * 2),
    # google/gemma-3-27b-it: every 6th of 62 is full (gemma3.py)
    ("gemma 3", shape("gemma3_text", 62, 5376, 32, 16, head_dim=128, sliding_window=1024), 10 * 16 * 256 * 2),
    # google/gemma-3n-E4B: 15 of 35 layers share the KV of earlier ones (gemma3n.py)
    ("gemma 3n", shape("gemma3n_text", 35, 2048, 8, 2, head_dim=256, sliding_window=512, num_kv_shared_layers=15),
     4 * 2 * 512 * 2),
    # google/gemma-4: full layers have 4 heads of 512, the last one is full (gemma4.py)
    ("gemma 4", shape("gemma4_text", 60, 5376, 32, 16, **GEMMA4, num_global_key_value_heads=4), 10 * 4 * 1024 * 2),
    # openai/gpt-oss-120b: every 2nd of 36 (gpt_oss.py)
    ("gpt-oss", shape("gpt_oss", 36, 2880, 64, 8, head_dim=64, sliding_window=128), 18 * 8 * 128 * 2),
    # CohereLabs/c4ai-command-a-03-2025: every 4th of 64 (commandr.py)
    ("command a", shape("cohere2", 64, 12288, 96, 8, head_dim=128, sliding_window=4096), 16 * 8 * 256 * 2),
    # LGAI-EXAONE/EXAONE-4.0-32B: LLLG (exaone4.py)
    ("exaone 4", shape("exaone4", 64, 5120, 40, 8, head_dim=128, sliding_window=4096, sliding_window_pattern="LLLG"),
     16 * 8 * 256 * 2),
    # facebook/cwm: the first of every four (llama.py: layer_types)
    ("cwm", shape("cwm", 64, 6144, 48, 8, head_dim=128, sliding_window=8192), 65536),
    # mistralai/Ministral-8B-Instruct-2410: listed for the unit that repeats
    ("listed windows", shape("llama", 36, 4096, 32, 8, sliding_window=[0, 32768, 32768, 32768]), 9 * 8 * 256 * 2),
    # tiiuae/falcon-7b, falcon-40b, falcon-rw-1b (falcon.py: multi_query only without new_decoder_architecture)
    ("falcon 7b", shape("falcon", 32, 4544, 71, multi_query=True), 8192),
    ("falcon 40b", {"model_type": "RefinedWeb", "n_layer": 60, "hidden_size": 8192, "n_head": 128, "n_head_kv": 8,
     "new_decoder_architecture": True, "multi_query": True}, 60 * 8 * 128 * 2),
    ("falcon rw", shape("falcon", 24, 2048, 32, multi_query=False, alibi=True), 24 * 32 * 128 * 2),
    # bigcode/starcoder (GPTBigCode: multi_query)
    ("starcoder", {"model_type": "gpt_bigcode", "n_layer": 40, "n_embd": 6144, "n_head": 48, "multi_query": True},
     40 * 256 * 2),
    # zai-org/chatglm3-6b (chatglm.py: multi_query_group_num, if multi_query_attention)
    ("chatglm3", {"model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "num_attention_heads": 32,
     "kv_channels": 128,
     "multi_query_attention": True, "multi_query_group_num": 2}, 28 * 2 * 256 * 2),
    ("chatglm, all heads", {"model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "num_attention_heads": 32,
     "kv_channels": 128, "multi_query_attention": False, "multi_query_group_num": 2}, 28 * 32 * 256 * 2),
    # ai21labs/Jamba-v0.1 (jamba.py), ibm-ai-platform/Bamba-9B (bamba), ibm-granite/granite-4.0-h-small
    ("jamba", shape("jamba", 32, 4096, 32, 8, attn_layer_period=8, attn_layer_offset=4), 4 * 8 * 256 * 2),
    ("bamba", shape("bamba", 32, 4096, 32, 8, attn_layer_indices=[9, 18, 27]), 3 * 8 * 256 * 2),
    ("granite 4", shape("granitemoehybrid", 40, 4096, 32, 8,
     layer_types=(["mamba"] * 5 + ["attention"] + ["mamba"] * 4) * 4), 4 * 8 * 256 * 2),
    # nvidia/Nemotron-H-8B: 4 of 52 (nemotron_h.py: hybrid_override_pattern)
    ("nemotron h", shape("nemotron_h", 52, 4096, 32, 8, head_dim=128,
     hybrid_override_pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"), 4 * 8 * 256 * 2),
    # Zyphra/Zamba2-1.2B: a shared block with a cache of its own at 6 places (zamba2.py)
    ("zamba 2", shape("zamba2", 38, 2048, 32, 32, kv_channels=64, hybrid_layer_ids=[5, 11, 17, 23, 29, 35]),
     6 * 32 * 256 * 2),
    # tiiuae/Falcon-H1-34B: attention in every layer (falcon_h1.py)
    ("falcon h1", shape("falcon_h1", 72, 5120, 20, 4, head_dim=128, mamba_d_ssm=4096), 72 * 4 * 256 * 2),
    # Qwen/Qwen3-Next-80B-A3B: every 4th of 48, 2 heads of 256 (qwen3_next.py)
    ("qwen3 next", shape("qwen3_next", 48, 2048, 16, 2, head_dim=256), 12 * 2 * 512 * 2),
    ("qwen3 next, stated", shape("qwen3_next", 48, 2048, 16, 2, head_dim=256, full_attention_interval=8),
     6 * 2 * 512 * 2),
    # moonshotai/Kimi-Linear-48B-A3B: latents in 7 of 27 (kimi_linear: full_attn_layers, from 1)
    ("kimi linear", shape("kimi_linear", 27, 2304, 32, 32, **DEEPSEEK, linear_attn_config={"num_heads": 32,
     "head_dim": 128,
     "full_attn_layers": [4, 8, 12, 16, 20, 24, 27]}), 7 * 576 * 2),
    # MiniMaxAI/MiniMax-Text-01 (attn_type_list), LiquidAI/LFM2-1.2B (full_attn_idxs)
    ("minimax 01", shape("minimax", 80, 6144, 64, 8, head_dim=128, attn_type_list=([0] * 7 + [1]) * 10),
     10 * 8 * 256 * 2),
    ("lfm2", shape("lfm2", 16, 2048, 32, 8, full_attn_idxs=[2, 5, 8, 10, 12, 14], conv_L_cache=3), 6 * 8 * 128 * 2),
    # mistralai/Mistral-7B-v0.1 keeps a window in every layer
    ("mistral", shape("mistral", 32, 4096, 32, 8, sliding_window=4096), 0),
    # IQuestLab/IQuest-Coder-V1-40B-Loop: layers run again over a window only (iquest_loopcoder.py)
    ("loop coder", shape("iquestloopcoder", 80, 5120, 40, 8, head_dim=128, loop_num=2), 80 * 8 * 256 * 2),
    # openPangu Pro MoE: keys of two parts, values of their own, where it has sinks (openpangu.py: param_sink_number)
    ("pangu pro", shape("PanguProMoEV2", 50, 4608, 64, 8, qk_nope_dim=128, qk_rope_dim=64, v_channels=128,
     param_sink_number=128), 50 * 8 * 320 * 2),
    ("pangu pro without sinks", shape("PanguProMoEV2", 50, 4608, 64, 8, qk_nope_dim=128, qk_rope_dim=64,
     v_channels=128), 50 * 8 * 144 * 2),
    # HRM-Text: two stacks of 16 layers run 2 * (3 + 1) times in all, each with a cache of its own (hrm_text.py);
    # saved again its configuration counts what that makes
    ("hrm text", shape("hrm_text", 16, 1536, 12, head_dim=128, H_cycles=2, L_cycles=3), 128 * 12 * 256 * 2),
    ("hrm text, saved", shape("hrm_text", 128, 1536, 12, head_dim=128, H_cycles=2, L_cycles=3,
     num_layers_per_stack=16), 128 * 12 * 256 * 2),
    # what is listed counts, and not num_hidden_layers (NemotronHConfig)
    ("nemotron h, listed", shape("nemotron_h", 52, 4096, 32, 8, head_dim=128,
     layers_block_type=["mamba", "mlp", "attention", "moe", "mamba"]), 8 * 256 * 2),
    # nvidia's Cosmos 3 Edge: each layer is attention and one without (configs/cosmos3_edge.py)
    ("cosmos 3 edge", {"model_type": "cosmos3_edge", "text_config": shape("cosmos3_edge_text", 28, 4096, 32, 8,
     head_dim=128)}, 28 * 8 * 256 * 2),
    ("cosmos 3 edge, listed", {"model_type": "cosmos3_edge", "text_config": shape("cosmos3_edge_text", 28, 4096, 32, 8,
     head_dim=128, layers_block_type=["full_attention", "mlp"] * 28)}, 28 * 8 * 256 * 2),
    # Zyphra/Zamba-7B-v1: heads as wide as two hidden states have them; the third layer has attention, then one of six
    ("zamba", shape("zamba", 76, 3712, 16, 16, attn_layer_period=6, attn_layer_offset=4), 13 * 16 * 2 * 464 * 2),
    # latents of other families than Dots 3 Note have no window (deepseek_v2.py)
    ("latents beside a window", shape("deepseek_v3", 4, 4096, 32, 32, **DEEPSEEK, sliding_window=512,
     layer_types=["sliding_attention", "full_attention"] * 2), 4 * 576 * 2),
    # inclusionAI's third Ling: layers beyond whole groups are full (bailing_moe_v3.py), in 2.5 they are not
    ("ling 2.5", shape("bailing_hybrid", 14, 4096, 32, 8, **DEEPSEEK, layer_group_size=4), 3 * 576 * 2),
    ("ling 3", shape("bailing_hybrid", 14, 4096, 32, 8, **DEEPSEEK, layer_group_size=4,
     architectures=["BailingMoeV3ForCausalLM"]), 5 * 576 * 2),
    # apple/OpenELM: KV heads per layer
    ("per layer", shape("openelm", 4, 2048, 16, head_dim=64, num_kv_heads=[3, 3, 4, 5]), 15 * 128 * 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "want"), PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_bytes_per_token_of_published_models(name: str, config: dict[str, Any], want: int) -> None:
    assert bytes_per_token(layer_groups(Config(config))) == want
    assert bytes_per_token(layer_groups(Config(config, classes=config_classes()))) == want


def test_layers_that_slide_have_heads_of_their_own() -> None:
    config = shape("mimo_v2_flash", 6, 4096, 64, 4, **MIMO, hybrid_layer_pattern=[0, 1, 1, 1, 1, 0])
    assert layer_groups(Config(config)) == (
        LayerGroup(LayerKind.FULL, 2, 4, 192, 128),
        LayerGroup(LayerKind.SLIDING, 4, 8, 192, 128, window=128),
    )


def test_only_some_families_have_a_window_from_some_layer_on() -> None:
    """vLLM's own specs: Qwen 2 and 3 do, Qwen 2 MoE has none, others have it everywhere or nowhere."""
    late = {"use_sliding_window": True, "max_window_layers": 3, "sliding_window": 512}
    for kind, want in (("qwen2", 3), ("qwen3", 3), ("qwen2_moe", 24), ("laguna", 24)):
        found = layer_groups(Config(shape(kind, 24, 2048, 16, 16, **late), classes=config_classes()))
        assert sum(group.count for group in found if group.kind is LayerKind.FULL) == want, kind


def test_a_window_of_cohere_s_is_beside_the_token_itself() -> None:
    config = shape("cohere2", 4, 4096, 32, 8, sliding_window=4096)
    assert {group.window for group in layer_groups(Config(config)) if group.kind is LayerKind.SLIDING} == {4097}


def test_deepseek_v4_keeps_a_state_for_several_tokens_and_a_window() -> None:
    # vLLM 0.32: models/deepseek_v4: ratio 0 = a window only, 4 = with an indexer, 128 = without
    config = shape("deepseek_v4", 3, 4096, 64, 1, head_dim=512, sliding_window=128, index_head_dim=128, index_topk=512)
    window, four, many = layer_groups(Config({**config, "compress_ratios": [0, 4, 128]}))
    assert (window.kind, window.window, window.k_dim) == (LayerKind.SLIDING, 128, 512)
    assert bytes_per_token([four]) == (512 * 2 + 132) // 4
    assert bytes_per_token([many]) == 512 * 2 // 128
    assert four.state_bytes > 128 * 512 * 2 and many.state_bytes > 128 * 512 * 2


def test_a_decoder_keeps_what_it_attends_to_of_an_encoder() -> None:
    # openai/whisper-large-v3-turbo: 4 layers of the decoder, 20 heads of 64, 1,500 positions (whisper.py)
    config = {"model_type": "whisper", "is_encoder_decoder": True, "num_hidden_layers": 32, "decoder_layers": 4,
              "d_model": 1280, "decoder_attention_heads": 20, "max_source_positions": 1500}  # fmt: skip
    (group,) = layer_groups(Config(config))
    assert (group.kv_heads, group.k_dim) == (20, 64)
    assert group.state_bytes == 1500 * 20 * 128 * 2


SHORT: list[tuple[str, Any]] = [
    ("num_key_value_heads", [8]), ("num_key_value_heads", [8] * 31), ("num_key_value_heads", [8] * 33),
    ("num_kv_heads", [8, 8]), ("num_key_value_heads_per_layer", [4]), ("layer_types", ["full_attention"]),
    ("layer_types", ["full_attention"] * 40), ("layers_block_type", ["attention", "mamba"]),
    ("hybrid_layer_pattern", [0, 1]), ("attn_type_list", [1, 0, 0]), ("attention_layers", ["global", "local"]),
    ("block_configs", [{"attention": {"n_heads_in_group": 8}}]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), SHORT)
def test_a_list_that_does_not_cover_the_layers_is_refused_by_name(key: str, value: list[Any]) -> None:
    config = {**shape("llama", 32, 4096, 32, 8), key: value}
    with pytest.raises(UnsupportedModel, match=rf"{key} .* lists {len(value)} layers, and the model has 32"):
        layer_groups(Config(config))


@pytest.mark.parametrize("value", [["8"] * 32, [-1] * 32, [True] * 32, [1e9] * 32, [5000] * 32])
def test_a_list_of_impossible_heads_is_refused(value: list[Any]) -> None:
    with pytest.raises(UnsupportedModel, match="num_key_value_heads"):
        layer_groups(Config({**shape("llama", 32, 4096, 32, 8), "num_key_value_heads": value}))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_hidden_layers": 32},
        {"num_hidden_layers": 32, "hidden_size": 4096},
        {"num_attention_heads": 32, "hidden_size": 4096},
        {"num_hidden_layers": 32, "num_attention_heads": 32},
    ],
)
def test_layers_whose_heads_nobody_tells_stay_as_unknown(config: dict[str, Any]) -> None:
    found = layer_groups(Config({"model_type": "foreign", **config}))
    assert all(group.kind is LayerKind.FULL and not group.kv_heads * group.k_dim for group in found)


@pytest.mark.parametrize(
    "more", [{"hybrid_override_pattern": "M" * 5000}, {"is_encoder_decoder": True, "decoder_layers": 5000}]
)
def test_more_layers_than_any_model_has_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match="claims 5000 layers"):
        layer_groups(Config({**shape("nemotron_h", 4, 4096, 32, 8), **more}))


def test_numbers_of_layers_may_be_many_and_anything() -> None:
    numbers = [[], {}, "1", 2.0, True, None, *range(100_000, 1_100_000), 3]
    found = layer_groups(Config(shape("bamba", 4096, 4096, 32, 8, attn_layer_indices=numbers)))
    assert [(group.kind, group.count) for group in found] == [(LayerKind.RECURRENT, 4095), (LayerKind.FULL, 1)]


def test_layers_that_slide_without_a_window_keep_every_token() -> None:
    words = {"inkling": LayerKind.FULL, "gemma2": LayerKind.FULL}
    for model_type, kind in words.items():
        found = layer_groups(Config(shape(model_type, 6, 4096, 32, 8)))
        assert {group.kind for group in found} == {kind}


def test_a_layer_with_no_heads_in_the_list_keeps_nothing() -> None:
    found = layer_groups(Config(shape("llama", 4, 4096, 32) | {"num_key_value_heads": [8, 0, 8, 0]}))
    assert [(group.kind, group.count) for group in found] == [(LayerKind.FULL, 2), (LayerKind.NONE, 2)]


KEYS = [
    "layer_types",
    "layers_block_type",
    "block_types",
    "attention_layers",
    "hybrid_layer_pattern",
    "hybrid_override_pattern",
    "block_configs",
    "attn_type_list",
    "linear_attn_config",
    "attn_layer_indices",
    "hybrid_layer_ids",
    "local_layer_ids",
    "no_rope_layers",
    "sparse_attention_config",
    "attn_layer_period",
    "full_attention_interval",
    "no_rope_layer_interval",
    "compress_ratios",
    "sliding_window",
    "sliding_windows",
    "interleaved_sliding_window",
    "sliding_window_pattern",
    "global_attn_every_n_layers",
    "use_sliding_window",
    "max_window_layers",
    "num_kv_shared_layers",
    "num_key_value_heads",
    "num_attention_groups",
    "attn_config",
    "multi_query",
    "multi_query_attention",
    "per_layer_config",
    "swa_head_dim",
    "swa_num_key_value_heads",
    "attention_other_setting",
    "kv_lora_rank",
    "index_topk",
    "index_head_dim",
    "indexer_types",
    "index_topk_pattern",
    "index_topk_freq",
    "index_kpool",
    "indexer_head_dim",
    "indexer_compress_ratio",
    "loop_num",
    "is_encoder_decoder",
    "decoder_layers",
    "num_nextn_predict_layers",
    "sconv_kernel_size",
    "num_layers",
    "head_dim",
]
TYPES = [
    "llama",
    "nemotron-nas",
    "mimo_v2_flash",
    "longcat_flash",
    "deepseek_v32",
    "deepseek_v4",
    "llama4_text",
    "gemma4_text",
    "flint",
    "lfm3",
    "muse_spark_text",
    "qwen3_next",
    "kimi_linear",
    "zamba2",
    "falcon",
    "minicpm3",
    "inkling_text",
    "mamba2",
]
scalars = (
    st.none() | st.booleans() | st.integers(-2, 1 << 41) | st.floats() | st.sampled_from(["full", "MM*-", "LLG", "S"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(
                [
                    "attention",
                    "n_heads_in_group",
                    "no_op",
                    "kv_n_heads",
                    "full_attn_layers",
                    "0",
                    "01",
                    "head_dim",
                    "sparse_attention_freq",
                    "sparse_index_dim",
                    "attention_type",
                    "num_heads",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TYPES), st.integers(0, 4), st.dictionaries(st.sampled_from(KEYS), values, max_size=8))
def test_whatever_a_configuration_says_is_read_or_refused(model_type: str, layers: int, said: dict[str, Any]) -> None:
    try:
        found = layer_groups(Config({**shape(model_type, layers, 64, 4, 2), **said}))
    except UnsupportedModel:
        return
    assert all(group.count > 0 and group.tokens_per_state > 0 for group in found)
    assert bytes_per_token(found) >= 0


@pytest.mark.parametrize(("name", "stated", "want"), PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_layers_of_one_word_are_alike(name: str, stated: dict[str, Any], want: int, monkeypatch: Any) -> None:
    """Only the first of each word is looked at where nothing is listed: 800 models with 126 layers take their time."""
    config = Config(stated, classes=config_classes())
    counted, asked = layers._layer, list[int]()

    def noted(config: Config, index: int, word: str) -> LayerGroup:
        asked.append(index)
        return counted(config, index, word)

    monkeypatch.setattr(layers, "_layer", noted)
    assert layer_groups(config) == grouped(
        counted(config, index, word) for index, word in enumerate(layer_words(config))
    )
    if name in ("gemma 3", "gpt-oss", "jamba"):
        assert len(asked) == 2
