"""Bytes of KV cache per token for GGUFs whose cache departs from the usual, as llama.cpp allocates it (0.3.36; the file
of its source stands beside each)."""

from __future__ import annotations

from typing import Any

import pytest

from llmservice_runtime.estimate.kv import bytes_per_token
from llmservice_runtime.formats import gguf_possible
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import LayerKind
from llmservice_runtime.formats.gguf_layers import ArchitectureKeys, gguf_layer_groups

MLA = {"attention.key_length": 576, "attention.value_length": 512, "attention.key_length_mla": 192,
       "attention.value_length_mla": 128}  # fmt: skip


def keys(architecture: str, layers: int, width: int, heads: int, kv_heads: int, **more: Any) -> ArchitectureKeys:
    usual = {"block_count": layers, "embedding_length": width, "attention.head_count": heads,
             "attention.head_count_kv": kv_heads}  # fmt: skip
    stated = {key.replace("__", "."): value for key, value in more.items()}
    return ArchitectureKeys(
        {f"{architecture}.{key}": value for key, value in {**usual, **stated}.items()}, architecture, "x"
    )


PUBLISHED: list[tuple[str, ArchitectureKeys, int]] = [
    ("llama 3 8b", keys("llama", 32, 4096, 32, 8), 131072),
    # K and V of their own size (llama-model.cpp)
    ("own sizes", keys("llama", 2, 4096, 32, 8, attention__key_length=192, attention__value_length=128),
     2 * 8 * 320 * 2),
    # Nemotron 51B: heads per layer, none where attention was left out (deci.cpp)
    ("deci", keys("deci", 4, 8192, 64, 8, attention__head_count_kv=(8, 0, 4, 8)), 20 * 256 * 2),
    # Nemotron Super 49B: its query heads are listed too, none where there is no attention
    ("deci, both lists", keys("deci", 3, 8192, 64, 8, attention__head_count=(64, 0, 64),
     attention__head_count_kv=(8, 0, 8)), 16 * 256 * 2),
    # latents are kept once, without values (llama-kv-cache.cpp: has_v)
    ("deepseek 2", keys("deepseek2", 61, 7168, 128, 1, **MLA), 61 * 576 * 2),
    ("deepseek 2, unpacked", keys("deepseek2", 27, 2048, 16, 16, attention__key_length=192,
     attention__value_length=128),
     27 * 16 * 320 * 2),
    # an indexer's keys have the cache's type (llama-kv-cache-dsa.cpp)
    ("deepseek 3.2", keys("deepseek32", 61, 7168, 128, 1, **MLA, **{"attention.indexer.key_length": 128}),
     61 * (576 + 128) * 2),
    ("shared indexers", keys("glm-dsa", 4, 6144, 64, 1, **MLA, **{"attention.indexer.key_length": 128,
     "attention.indexer.types": (1, 0, 0, 1)}), (4 * 576 + 2 * 128) * 2),
    # sparse layers only (llama-model.cpp: MINIMAX_M3)
    ("minimax m3", keys("minimax-m3", 4, 6144, 64, 4, attention__key_length=128, attention__value_length=128,
     leading_dense_block_count=3, **{"attention.indexer.key_length": 128}), 4 * 4 * 256 * 2 + 128 * 2),
    # every 6th is full (gemma3.cpp), every 2nd with a window that no key states (gemma2.cpp)
    ("gemma 3", keys("gemma3", 62, 5376, 32, 16, attention__key_length=128, attention__value_length=128,
     attention__sliding_window=1024), 10 * 16 * 256 * 2),
    ("gemma 2", keys("gemma2", 42, 3584, 16, 8, attention__key_length=256, attention__value_length=256),
     21 * 8 * 512 * 2),
    # KV in the first 20 layers (gemma3n.cpp), 4 of them full
    ("gemma 3n", keys("gemma3n", 35, 2048, 8, 2, attention__key_length=256, attention__value_length=256,
     attention__sliding_window=512, attention__shared_kv_layers=15.0), 4 * 2 * 512 * 2),
    # heads and sizes per kind of layer, the array tells which (gemma4.cpp, mimo2.cpp, step35.cpp)
    ("gemma 4", keys("gemma4", 6, 5376, 32, 16, attention__head_count_kv=(16, 16, 16, 16, 16, 4),
     attention__key_length=512, attention__value_length=512, attention__key_length_swa=256,
     attention__value_length_swa=256,
     attention__sliding_window=1024, attention__sliding_window_pattern=(1, 1, 1, 1, 1, 0)), 4 * 1024 * 2),
    ("mimo 2", keys("mimo2", 4, 4096, 64, 4, attention__head_count_kv=(4, 8, 8, 4), attention__key_length=192,
     attention__value_length=128, attention__sliding_window=128, attention__sliding_window_pattern=(0, 1, 1, 0)),
     2 * 4 * 320 * 2),
    ("dots 3", keys("dots3note", 4, 4096, 64, 1, **MLA, **{"attention.indexer.key_length": 128,
     "attention.indexer.types": (1, 0, 0, 1), "attention.key_length_swa": 1088, "attention.sliding_window": 512,
     "attention.sliding_window_pattern": (0, 1, 1, 0)}), 2 * (576 + 128) * 2),
    # chunks of 8,192 unless a window of 0 says otherwise (llama4.cpp)
    ("llama 4", keys("llama4", 48, 5120, 40, 8), 49152),
    ("llama 4, whole", keys("llama4", 48, 5120, 40, 8, attention__sliding_window=0), 48 * 8 * 256 * 2),
    # only the 32B has a window (exaone4.cpp), in Phi-3 it is left aside (phi3.cpp)
    ("exaone 4 32b", keys("exaone4", 64, 5120, 40, 8), 16 * 8 * 256 * 2),
    ("exaone 4 1.2b", keys("exaone4", 30, 2048, 32, 8, attention__sliding_window=4096), 30 * 8 * 128 * 2),
    ("phi 3", keys("phi3", 32, 3072, 32, 32, attention__sliding_window=2047), 32 * 32 * 192 * 2),
    # all attention of LFM2 slides where a window is stated (lfm2.cpp)
    ("lfm2", keys("lfm2", 4, 2048, 32, 8, attention__head_count_kv=(0, 8, 0, 8), shortconv__l_cache=3),
     2 * 8 * 128 * 2),
    ("lfm2, window", keys("lfm2", 4, 2048, 32, 8, attention__head_count_kv=(0, 8, 0, 8), shortconv__l_cache=3,
     attention__sliding_window=256), 0),
    # recurrent but every 4th, every 8th, or those that the array says (qwen3next.cpp, minimax-01.cpp)
    ("qwen3 next", keys("qwen3next", 48, 2048, 16, 2, attention__key_length=256, attention__value_length=256),
     12 * 2 * 512 * 2),
    ("minimax 01", keys("minimax-01", 80, 6144, 64, 8, attention__key_length=128, attention__value_length=128),
     10 * 8 * 256 * 2),
    ("listed", keys("qwen35", 4, 2048, 16, 2, attention__recurrent_layers=(1, 1, 0, 0)), 2 * 2 * 256 * 2),
    # layers that run several times (nanbeige.cpp); those that predict several tokens don't count
    ("loops", keys("nanbeige", 4, 2048, 16, 2, num_loops=3), 12 * 2 * 256 * 2),
    ("mtp", keys("glm4moe", 47, 4096, 96, 8, attention__key_length=128, attention__value_length=128,
     nextn_predict_layers=1), 46 * 8 * 256 * 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "stated", "want"), PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_bytes_per_token(name: str, stated: ArchitectureKeys, want: int) -> None:
    assert bytes_per_token(gguf_layer_groups(stated)) == want


def test_deepseek_4_keeps_a_state_for_several_tokens_and_a_window() -> None:
    stated = keys("deepseek4", 3, 4096, 64, 1, attention__key_length=512, attention__value_length=512,
                  attention__sliding_window=128, attention__compress_ratios=(0, 4, 128),
                  **{"attention.indexer.key_length": 128})  # fmt: skip
    window, four, many = gguf_layer_groups(stated)
    assert (window.kind, window.window) == (LayerKind.SLIDING, 128)
    assert (bytes_per_token([four]), bytes_per_token([many])) == (640 * 2 // 4, 512 * 2 // 128)


def test_lightning_attention_keeps_a_matrix_per_head() -> None:
    stated = keys("minimax-01", 8, 6144, 64, 8, attention__key_length=128)
    recurrent = next(group for group in gguf_layer_groups(stated) if group.kind is LayerKind.RECURRENT)
    assert (recurrent.count, recurrent.state_bytes) == (7, 4 * 64 * 128 * 128)


@pytest.mark.parametrize("key", ["attention.head_count", "attention.head_count_kv", "feed_forward_length"])
@pytest.mark.parametrize("values", [(8,), (8, 8, 8), (8, 8, 8, 8, 8)])
def test_an_array_of_another_length_is_refused_by_name(key: str, values: tuple[int, ...]) -> None:
    # llama.cpp: "key ... has wrong array length; expected 4, got 3"
    stated = keys("llama", 4, 4096, 32, 8, context_length=4096, **{key: values})
    with pytest.raises(UnsupportedModel, match=rf"llama.{key} of x lists {len(values)} layers, and the model has 4"):
        gguf_possible.check(stated)


def test_heads_that_no_key_tells_are_not_known() -> None:
    stated = ArchitectureKeys({"llama.block_count": 2, "llama.embedding_length": 256}, "llama", "x")
    (group,) = gguf_layer_groups(stated)
    assert (group.kind, group.kv_heads) == (LayerKind.FULL, 0)
