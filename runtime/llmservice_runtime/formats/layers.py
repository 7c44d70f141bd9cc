"""What each layer keeps per sequence, from config.json, as vLLM 0.32 and transformers 5.24 allocate it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from llmservice_runtime.formats.config import HEAD_DIM, KV_HEADS, Config
from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.latents import compressed, index_bytes, keeps_latents, latent
from llmservice_runtime.formats.lists import per_layer
from llmservice_runtime.formats.patterns import (
    WINDOWS,
    block_part,
    family,
    layer_count,
    layer_words,
    window_everywhere,
    window_of,
)
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.recurrent import mixer_bytes, short_convolution, state_bytes

_GROUPS = (*KV_HEADS, "num_attention_groups")
_PER_LAYER = ("num_key_value_heads_per_layer", "num_key_value_heads", "num_kv_heads")
_LISTS = (*_PER_LAYER, *WINDOWS, "block_configs")
"""What layers of one word may have each of their own; per_layer_config too, and indexers."""
_DIM = (*HEAD_DIM, "hidden_size_per_head", "d_kv")
_DECODER_HEADS = ("decoder_attention_heads",)
"""Of models with an encoder, whose decoder is what counts."""
_OWN = ("num_key_value_heads", "head_dim", "v_head_dim")
"""What layers that slide may have of their own, as `swa_...`."""
_MOST_HEADS = 4096
_MULTI_QUERY = frozenset({"falcon", "RefinedWebModel", "gpt_bigcode"})
"""Families with one KV head unless `multi_query` is false."""


def layer_groups(config: Config) -> tuple[LayerGroup, ...]:
    """All layers of the language model, equal ones together, in the order of their first appearance.

    Raises UnsupportedModel where lists of the configuration don't fit its layers.
    """
    words = layer_words(config)
    everywhere = window_everywhere(config) if set(words) == {"full"} else 0
    own = any(config.get(key) for key in ("index_topk", "per_layer_config"))
    if own or "compressed" in words or any(isinstance(config.get(key), list) for key in _LISTS):
        return grouped(_marked(_layer(config, index, word), everywhere) for index, word in enumerate(words))
    first = {
        word: _marked(_layer(config, words.index(word), word), everywhere) for word in dict.fromkeys(words)
    }  # layers of a word are alike
    return grouped(first[word] for word in words)


def grouped(layers: Iterable[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Equal layers as one group with their count."""
    counted = Counter(layers)
    return tuple(replace(layer, count=count) for layer, count in counted.items())


def _marked(layer: LayerGroup, everywhere: int) -> LayerGroup:
    """With the window that some engine gives it."""
    return replace(layer, window=everywhere) if layer.kind is LayerKind.FULL else layer


def _layer(config: Config, index: int, word: str) -> LayerGroup:
    """One layer."""
    if word == "none":
        return LayerGroup(LayerKind.NONE, 1)
    if word == "recurrent":
        return LayerGroup(LayerKind.RECURRENT, 1, state_bytes=state_bytes(config), mixer_bytes=mixer_bytes(config))
    if word == "compressed":
        return compressed(config, index)
    slides = word.endswith("sliding")
    if keeps_latents(config):
        return latent(config, index, slides)
    heads, dim, values = _heads(config, index, slides)
    if not heads and config.heads:  # a list says so; without any heads the layer stays, as one that is not known
        return LayerGroup(LayerKind.NONE, 1)
    token = heads * (dim + values)
    mixer = 0
    if "parallel" in word:
        state = short_convolution(config, token)
        mixer = state // 2 or mixer_bytes(config)
        state = state or state_bytes(config)
    else:
        state = _across(config) + _again(config, token)
    beside = LayerGroup(LayerKind.FULL, 1, heads, dim, values, state_bytes=state, mixer_bytes=mixer)
    if slides:
        return replace(beside, kind=LayerKind.SLIDING, window=window_of(config, index))
    return replace(beside, index_bytes=index_bytes(config, index) if word == "indexed" else 0)


def _heads(config: Config, index: int, slides: bool) -> tuple[int, int, int]:
    """KV heads, and elements of a key and of a value."""
    own = _own(config, index, slides)
    if rope := config.integer("kv_lora_rank") and config.integer("qk_nope_head_dim"):
        # Unpacked latents: every head has a key, and values are padded to its size (MiniCPM3).
        dim = rope + config.integer("qk_rope_head_dim")
        return config.heads, dim, dim
    heads = own.integer(*_GROUPS) or _kv_heads(config, index, slides)
    # Pangu's keys of two parts and values of their own go with its sinks (openpangu.py).
    sinks = family(config) != "PanguProMoEV2" or config.integer("param_sink_number")
    parts = config.integer("qk_nope_dim") + config.integer("qk_rope_dim") if sinks else 0
    dim = own.integer("head_dim") or parts
    if not dim:
        dim = _head_dim(config, slides)
        return heads, dim, own.integer("v_head_dim") or config.integer("v_head_dim", "head_size_v") or dim
    return heads, dim, own.integer("v_head_dim") or config.integer("v_channels") or dim


def _own(config: Config, index: int, slides: bool) -> Config:
    """What the layer, or all layers that slide, have of their own instead of the model's heads."""
    found: dict[str, Any] = {}
    if slides:
        found = {key: config[f"swa_{key}"] for key in _OWN if f"swa_{key}" in config}
        other = config.get("attention_other_setting")
        found |= other if isinstance(other, dict) and other.get("attention_type") == "sliding_attention" else {}
    layers = config.get("per_layer_config")
    if isinstance(layers, dict):
        own = layers.get(f"{index:02d}", layers.get(str(index)))
        found |= own if isinstance(own, dict) else {}
    if group := block_part(config, index, "attention").get("n_heads_in_group"):
        if type(group) is not int or not 0 < group <= max(1, config.heads):
            raise damaged(f"{config.name} has the impossible value {str(group)[:60]} for n_heads_in_group.")
        found["num_key_value_heads"] = config.heads // group
    return Config(found, config.name)


def _kv_heads(config: Config, index: int, slides: bool) -> int:
    count = layer_count(config)
    for key in _PER_LAYER:
        if isinstance(config.get(key), list):
            heads = per_layer(config, key, count)[index]
            if type(heads) is not int or not 0 <= heads <= _MOST_HEADS:
                raise damaged(f"{config.name} has the impossible value {str(heads)[:60]} in {key}.")
            return heads
    shares = config.get("attention_k_eq_v") is not False  # Gemma 4 has other heads only where keys are values too
    if not slides and shares and (heads := config.integer("num_global_key_value_heads")):
        return heads
    nested = config.get("attn_config")
    heads = Config(nested, config.name).integer("kv_n_heads") if isinstance(nested, dict) else 0
    if heads or family(config) == "dbrx":  # whose class has one where none is stated
        return heads or 1
    if not config.get("new_decoder_architecture") and config.get("multi_query", family(config) in _MULTI_QUERY) is True:
        return 1
    if config.get("multi_query_attention") is False:
        return config.heads
    return config.integer(*_DECODER_HEADS, *_GROUPS) or config.heads


def _head_dim(config: Config, slides: bool) -> int:
    if not slides and (dim := config.integer("global_head_dim")):
        return dim
    if family(config) in ("zamba", "zamba2"):  # its attention reads the embedding beside the hidden state
        return config.integer("attention_head_dim") or 2 * config.hidden // max(1, config.heads)
    if (
        config.get("qk_nope_head_dim") == 0 == config.get("qk_rope_head_dim")
    ):  # ordinary heads, whatever their class has
        return config.hidden // max(1, config.heads)
    return config.integer(*_DIM) or config.hidden // max(1, config.integer(*_DECODER_HEADS) or config.heads)


def _across(config: Config) -> int:
    """Bytes of an encoder's output that a decoder's layer attends to, per sequence, in 16 bits."""
    if config.get("is_encoder_decoder") is not True:
        return 0
    heads = config.integer(*_DECODER_HEADS) or config.heads
    positions = config.integer("max_source_positions", "max_position_embeddings", "n_positions")
    return 2 * heads * 2 * _head_dim(config, False) * positions


def _again(config: Config, token: int) -> int:
    """Bytes of the windows of layers that run again, per sequence, in 16 bits (iquest_loopcoder.py)."""
    if family(config) != "iquestloopcoder":
        return 0
    loops, window = config.integer("loop_num", default=2), config.integer("loop_window_size", default=64)
    return 2 * token * window * max(0, loops - 1)
