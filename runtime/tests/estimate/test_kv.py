"""KV cache per kind of layer, against published figures and properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.engines.llamacpp.options import Q8_0
from llmservice_runtime.estimate.budget import Shape, cache_lines
from llmservice_runtime.estimate.kv import Pool, bytes_per_token, kv_bytes, states_bytes
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts
from llmservice_runtime.machine.machine import Device

KIB = 1024


@pytest.mark.parametrize(
    ("name", "kib"), [("llama-3.1-8b", 128), ("qwen2.5-7b", 56), ("llama-2-13b", 800), ("llama-3-70b", 320)]
)
def test_published_bytes_per_token(geometry: Callable[..., ModelFacts], name: str, kib: int) -> None:
    facts = geometry(name)
    assert bytes_per_token(facts.layers) == kib * KIB
    assert kv_bytes(facts.layers, Pool(tokens=4096, sequences=8)) == 4096 * kib * KIB


def test_mla_is_one_latent_and_is_not_divided() -> None:
    deepseek_v3 = (LayerGroup(LayerKind.MLA, 61, kv_heads=1, k_dim=512 + 64, v_dim=0),)
    assert bytes_per_token(deepseek_v3) == 70272  # 68.6 KiB
    alone = kv_bytes(deepseek_v3, Pool(1024, 1))
    assert kv_bytes(deepseek_v3, Pool(1024, 1, tensor_parallel=8)) == alone


def test_tensor_parallelism_divides_by_kv_heads_at_most() -> None:
    layers = (LayerGroup(LayerKind.FULL, 80, 8, 128, 128),)
    alone = kv_bytes(layers, Pool(1024, 1))
    assert kv_bytes(layers, Pool(1024, 1, tensor_parallel=4)) == alone // 4
    assert kv_bytes(layers, Pool(1024, 1, tensor_parallel=16)) == alone // 8


def test_sliding_layers_stop_at_the_window() -> None:
    group = LayerGroup(LayerKind.SLIDING, 1, 4, 128, 128, window=1024)
    per_token = 4 * 256 * 2
    assert kv_bytes([group], Pool(32768, 1, chunk=512)) == (1024 + 512) * per_token
    assert kv_bytes([group], Pool(32768, 1, full_sliding=True)) == 32768 * per_token
    assert bytes_per_token([group]) == 0


def test_recurrent_state_counts_sequences_and_not_tokens() -> None:
    hybrid = (LayerGroup(LayerKind.RECURRENT, 24, state_bytes=1_000_000), LayerGroup(LayerKind.NONE, 4))
    assert kv_bytes(hybrid, Pool(100_000, 16)) == 24 * 16 * 1_000_000
    assert bytes_per_token(hybrid) == 0


def test_states_have_a_line_of_their_own_which_is_of_the_cache() -> None:
    hybrid = (LayerGroup(LayerKind.RECURRENT, 24, state_bytes=1_000_000), LayerGroup(LayerKind.FULL, 4, 2, 64, 64))
    pool = Pool(tokens=1024, sequences=16)
    states = states_bytes(hybrid, pool)
    assert states == 24 * 16 * 1_000_000
    shape = Shape(Device.CPU, context_tokens=1024, sequences=16, kv_tokens=1024)
    tokens, kept = cache_lines(shape, kv_bytes(hybrid, pool), states)
    assert (tokens.name, tokens.bytes) == ("KV cache of 1,024 tokens", 1024 * bytes_per_token(hybrid))
    assert (kept.name, kept.bytes, kept.is_cache) == ("states of 16 sequences", states, True)
    assert len(cache_lines(shape, 1024, 0)) == 1


def test_parallel_layers_keep_tokens_and_state() -> None:
    plain = LayerGroup(LayerKind.FULL, 2, kv_heads=2, k_dim=64, v_dim=64)
    parallel = dataclasses.replace(plain, state_bytes=1000)  # Falcon-H1
    pool = Pool(tokens=1024, sequences=4)
    assert kv_bytes((parallel,), pool) - kv_bytes((plain,), pool) == 2 * 4 * 1000


def test_an_indexers_keys_are_8_bit_and_states_may_stand_for_several_tokens() -> None:
    indexed = LayerGroup(LayerKind.MLA, 61, 1, 576, index_bytes=132)  # DeepSeek V3.2
    assert bytes_per_token([indexed]) == 78324
    assert kv_bytes([indexed], Pool(1024, 1, element=Q8_0)) == 1024 * 61 * (576 * 34 // 32 + 132)
    pooled = dataclasses.replace(indexed, tokens_per_state=4)  # DeepSeek V4
    assert kv_bytes([pooled], Pool(1024, 1)) == 256 * 61 * (576 * 2 + 132)
    damaged = dataclasses.replace(indexed, tokens_per_state=0)
    assert kv_bytes([damaged], Pool(1024, 1)) == kv_bytes([indexed], Pool(1024, 1))


def test_states_are_divided_and_what_stands_beside_latents_is_not() -> None:
    hybrid = LayerGroup(LayerKind.RECURRENT, 2, state_bytes=1000)
    assert kv_bytes([hybrid], Pool(0, 3, tensor_parallel=4)) == 2 * 3 * 250
    latent = LayerGroup(LayerKind.MLA, 2, 1, 0, state_bytes=1000)
    assert kv_bytes([latent], Pool(0, 3, tensor_parallel=4)) == 2 * 3 * 1000


def test_k_and_v_may_differ_and_cells_may_be_quantized() -> None:
    layers = (LayerGroup(LayerKind.FULL, 1, 2, 192, 128),)
    assert bytes_per_token(layers) == 2 * (192 + 128) * 2
    assert kv_bytes(layers, Pool(256, 1, element=Q8_0)) == 256 * 2 * 320 * 34 // 32


groups = st.builds(
    LayerGroup,
    kind=st.sampled_from(LayerKind),
    count=st.integers(0, 100),
    kv_heads=st.integers(1, 128),
    k_dim=st.integers(1, 576),
    v_dim=st.integers(0, 256),
    window=st.integers(1, 8192),
    state_bytes=st.integers(0, 1 << 20),
    index_bytes=st.integers(0, 512),
    tokens_per_state=st.integers(0, 128),
)


@given(st.lists(groups, max_size=4), st.integers(0, 1 << 20), st.integers(0, 1 << 12), st.integers(1, 64))
def test_more_tokens_and_sequences_never_cost_less(
    layers: list[LayerGroup], tokens: int, more: int, sequences: int
) -> None:
    small = Pool(tokens, sequences)
    assert kv_bytes(layers, small) <= kv_bytes(layers, dataclasses.replace(small, tokens=tokens + more))
    assert kv_bytes(layers, small) <= kv_bytes(layers, dataclasses.replace(small, sequences=sequences + 1))
