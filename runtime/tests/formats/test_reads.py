"""What a token reads of the weights, by names of tensors as libraries write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, Reads
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.formats.reads import chosen_experts, reads
from llmservice_runtime.formats.tensors import Tensor
from tests.formats.model_samples import MemoryFiles, load_fixture

TWO = (LayerGroup(LayerKind.FULL, 2, 2, 16, 16),)


def named(**sizes: int) -> list[Tensor]:
    """Tensors of so many bytes; `__` stands for a dot."""
    return [Tensor(name.replace("__", "."), "BF16", (size // 2,), size) for name, size in sizes.items()]


DENSE = {"model__layers__0__mlp__up_proj__weight": 100, "model__layers__1__self_attn__q_proj__weight": 60}


def test_rows_of_embeddings_are_looked_up() -> None:
    untied = named(**DENSE, model__embed_tokens__weight=40, lm_head__weight=40, model__norm__weight=2)
    assert reads(untied, TWO, 0, 0) == Reads(160, 40)


def test_embeddings_that_are_the_output_matrix_are_read() -> None:
    assert reads(named(**DENSE, model__embed_tokens__weight=40), TWO, 0, 0) == Reads(160, 40)
    gguf = named(blk__0__attn_q__weight=10, blk__1__attn_output__weight=20, token_embd__weight=8, output_norm__weight=1)
    assert reads(gguf, TWO, 0, 0) == Reads(30, 8)
    assert reads([*gguf, *named(output__weight=6)], TWO, 0, 0) == Reads(30, 6)


def test_what_sees_and_what_guesses_ahead_is_not_read() -> None:
    beside = named(
        visual__blocks__0__mlp__weight=1000,
        model__layers__2__mlp__up_proj__weight=1000,
        v__blk__1__ffn_up__weight=1000,
        audio_tower__embed_positions__weight=1000,
    )
    assert reads([*named(**DENSE, lm_head__weight=40), *beside], TWO, 0, 0) == Reads(160, 40)


@pytest.mark.parametrize(
    "tower",
    [
        "vpm__encoder__layers__0__mlp__fc1__weight",
        "apm__layers__1__fc1__weight",
        "perception__encoder__layers__0__linear1__weight",
        "qformer__encoder__layer__0__output__dense__weight",
        "projector__qformer__encoder__layer__0__output__dense__weight",
        "talker__model__layers__0__mlp__up_proj__weight",
    ],
)
def test_towers_that_are_called_otherwise_are_not_read_either(tower: str) -> None:
    assert reads(named(**DENSE, lm_head__weight=40, **{tower: 1000}), TWO, 0, 0) == Reads(160, 40)


def test_a_tower_that_nobody_knows_is_not_taken_for_the_language_model() -> None:
    strange = named(**DENSE, lm_head__weight=40, strange__layers__0__mlp__weight=1000)
    assert reads(strange, TWO, 0, 0) is None
    assert reads(named(**DENSE, lm_head__weight=40, strange__layers__2__mlp__weight=1000), TWO, 0, 0) == Reads(160, 40)


@pytest.mark.parametrize(
    "expert",
    [
        "model__layers__0__mlp__experts__3__up_proj__weight",
        "model__layers__1__block_sparse_moe__experts__gate_up_proj",
        "blk__0__ffn_gate_exps__weight",
        "blk__0__ffn_up__7__weight",
    ],
)
def test_experts_are_apart_from_those_that_are_shared(expert: str) -> None:
    dense = {"blk__0__attn_q__weight": 100, "blk__1__ffn_gate_shexp__weight": 71}
    if expert.startswith("model"):
        dense = {**DENSE, "model__layers__0__mlp__shared_experts__up_proj__weight": 11}
    found = reads(named(**dense, **{expert: 800}, lm_head__weight=40), TWO, 8, 2)
    assert found == Reads(171, 40, experts=800, chosen=2)


def test_what_does_not_tell_is_not_guessed() -> None:
    routed = {"model__layers__0__mlp__experts__3__up_proj__weight": 800}
    assert reads([], TWO, 0, 0) is None
    assert reads(named(strange__weight=10), TWO, 0, 0) is None
    assert reads(named(**DENSE), TWO, 8, 2) is None, "where the experts are is not known"
    assert reads(named(**DENSE, **routed), TWO, 0, 0) is None, "that it has some is not known"
    assert reads(named(**DENSE, **routed), TWO, 8, 0) is None, "how many a token passes is not known"
    assert reads(named(**DENSE, **routed), TWO, 8, 9) is None


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ({"num_experts": 8, "num_experts_per_tok": 2}, 2),
        ({"n_routed_experts": 64, "moe_topk": 6}, 6),
        ({"num_experts": 8, "moe_topk": [2, 4]}, 0),
        ({"moe_num_experts": [64, 32], "moe_k": 6}, 0),
        ({"n_routed_experts": 512, "moe_topk": 12, "zero_expert_num": 256}, 0),
        ({"num_experts": 8}, 0),
    ],
)
def test_how_many_experts_a_token_passes(said: dict[str, Any], chosen: int) -> None:
    assert chosen_experts(Config(said)) == chosen


def test_headers_that_libraries_wrote() -> None:
    llama = inspect_model(MemoryFiles(load_fixture("llama")))
    assert llama.reads and llama.reads.layers == sum(llama.layer_weight_bytes) and not llama.reads.experts
    assert 0 < llama.reads.output < llama.weight_bytes - llama.reads.layers
    experts = inspect_model(MemoryFiles(load_fixture("deepseek-v3")))
    assert experts.reads and 0 < experts.reads.chosen < experts.mixture_experts
    assert experts.reads.layers + experts.reads.experts == sum(experts.layer_weight_bytes)


def test_a_gguf_says_it_too(make_gguf: Callable[..., bytes]) -> None:
    files = {"x.gguf": make_gguf()}
    found = inspect_model(MemoryFiles(files))
    assert found.reads == Reads(sum(found.layer_weight_bytes), 0)
    assert replace(found, reads=None) != found
