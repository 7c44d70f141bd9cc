"""What each layer keeps per sequence, from config.json (transformers 5.23's and vLLM 0.33's readings of it)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from llmservice_runtime.formats.config import HEAD_DIM, KV_HEADS, Config
from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.recurrent import state_bytes

PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gemma3n": 5, "cohere2": 4, "llama4": 4, "gpt_oss": 2}
"""Every n-th layer is full, the others slide, where the configuration says nothing of it."""
UNIFORM_WINDOW = frozenset({"mistral", "mixtral", "starcoder2", "phi3", "ministral", "mistral3", "pixtral"})
"""Families whose `sliding_window` means every layer."""

_FULL = frozenset({"full_attention", "attention", "global", "global_attention", "full", "hybrid_attention"})
_SLIDING = frozenset({"sliding_attention", "chunked_attention", "local", "sliding", "swa", "local_attention"})
_RECURRENT = frozenset({"linear_attention", "mamba", "mamba1", "mamba2", "recurrent", "conv", "kda", "linear", "m"})
_NONE = frozenset({"mlp", "moe", "-", "e"})


def layer_groups(config: Config) -> tuple[LayerGroup, ...]:
    """All layers of the language model, equal ones together, in the order of their first appearance."""
    return grouped(_layer(config, index, word) for index, word in enumerate(layer_words(config)))


def grouped(layers: Iterable[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Equal layers as one group with their count."""
    counted = Counter(layers)
    return tuple(replace(layer, count=count) for layer, count in counted.items())


def layer_words(config: Config) -> list[str]:
    """One word per layer: full, sliding, recurrent, parallel (attention beside a recurrent mixer) or none."""
    count = config.layers
    stated = _stated_words(config, count)
    if stated:
        words = [_normal(str(word), config) for word in stated[:count]]
        words += ["full"] * (count - len(words))
    else:
        words = _derived_words(config, count)
    shared = config.integer("num_kv_shared_layers")
    return [word if index < count - shared else "none" for index, word in enumerate(words)]


def _stated_words(config: Config, count: int) -> list[str]:
    """The list that configurations of hybrid models carry, under its many names."""
    if words := config.items_of("layer_types", "layers_block_type", "block_types", "attention_layers"):
        return list(words) * (1 if len(words) >= count else -(-count // len(words)))
    if pattern := config.text("hybrid_override_pattern"):
        return [{"M": "mamba", "*": "full", "-": "mlp", "E": "moe"}.get(letter, "full") for letter in pattern]
    if kinds := config.items_of("attn_type_list"):
        return ["full" if kind == 1 else "linear" for kind in kinds]
    linear = config.get("linear_attn_config")
    if isinstance(linear, dict) and isinstance(full := linear.get("full_attn_layers"), list):
        return ["full" if index + 1 in full else "linear" for index in range(count)]
    if attention := config.items_of("attn_layer_indices", "full_attn_idxs"):
        return ["full" if index in attention else "mamba" for index in range(count)]
    if period := config.integer("attn_layer_period"):
        offset = config.integer("attn_layer_offset")
        return ["full" if index % period == offset else "mamba" for index in range(count)]
    if interval := config.integer("full_attention_interval"):
        return ["full" if (index + 1) % interval == 0 else "linear" for index in range(count)]
    return []


def _derived_words(config: Config, count: int) -> list[str]:
    """Words for families that name no layer types."""
    kind = config.text("model_type")
    if kind.startswith(("mamba", "falcon_mamba", "rwkv")):
        return ["recurrent"] * count
    if kind == "falcon_h1":
        return ["parallel"] * count
    if not _window(config):
        return ["full"] * count
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern")
    if isinstance(pattern, str) and re.fullmatch("[LG]+", pattern):
        return ["sliding" if pattern[index % len(pattern)] == "L" else "full" for index in range(count)]
    every = pattern if type(pattern) is int else PATTERNS.get(kind, 0)
    if every:
        return ["full" if (index + 1) % every == 0 else "sliding" for index in range(count)]
    if config.get("use_sliding_window"):
        first = config.integer("max_window_layers")
        return ["sliding" if index >= first else "full" for index in range(count)]
    return ["sliding" if kind in UNIFORM_WINDOW else "full"] * count


def _normal(word: str, config: Config) -> str:
    lower = word.lower()
    if lower == "hybrid":
        return "parallel"
    if lower in _SLIDING:
        return "sliding" if _window(config) else "full"
    if lower in _RECURRENT:
        return "recurrent"
    return "none" if lower in _NONE else "full"


def _layer(config: Config, index: int, word: str) -> LayerGroup:
    """One layer."""
    if word == "none":
        return LayerGroup(LayerKind.NONE, 1)
    if word == "recurrent":
        return LayerGroup(LayerKind.RECURRENT, 1, state_bytes=state_bytes(config))
    if latent := config.integer("kv_lora_rank"):
        return LayerGroup(LayerKind.MLA, 1, kv_heads=1, k_dim=latent + config.integer("qk_rope_head_dim"))
    heads, dim = _kv_heads(config, index, word), _head_dim(config, index, word)
    values = config.integer("v_head_dim", "head_size_v") or dim
    if word == "sliding":
        return LayerGroup(LayerKind.SLIDING, 1, heads, dim, values, window=_window(config))
    state = state_bytes(config) if word == "parallel" else 0
    return LayerGroup(LayerKind.FULL, 1, heads, dim, values, state_bytes=state)


def _kv_heads(config: Config, index: int, word: str) -> int:
    if own := _own(config, index, "num_key_value_heads"):
        return own
    if per_layer := config.items_of("num_key_value_heads"):
        heads = per_layer[index] if index < len(per_layer) else 0
        if type(heads) is not int or not 0 <= heads <= 4096:
            raise damaged(f"{config.name} has impossible num_key_value_heads.")
        return heads
    if word == "full" and (heads := config.integer("num_global_key_value_heads")):
        return heads
    if config.get("multi_query") is True and not config.get("new_decoder_architecture"):
        return config.integer("multi_query_group_num", default=1)
    return config.integer(*KV_HEADS) or config.heads


def _head_dim(config: Config, index: int, word: str) -> int:
    if own := _own(config, index, "head_dim"):
        return own
    if word == "full" and (dim := config.integer("global_head_dim")):
        return dim
    return config.integer(*HEAD_DIM) or config.hidden // max(1, config.heads)


def _own(config: Config, index: int, key: str) -> int:
    """A layer's own value in Gemma 4's `per_layer_config`; 0 = none."""
    layers = config.get("per_layer_config")
    if not isinstance(layers, dict):
        return 0
    own = layers.get(f"{index:02d}", layers.get(str(index)))
    return Config(own, config.name).integer(key) if isinstance(own, dict) else 0


def _window(config: Config) -> int:
    """Tokens that a sliding layer sees; 0 = the window is off."""
    if config.get("use_sliding_window") is False:
        return 0
    return config.integer("sliding_window", "attention_chunk_size", "window_size", "local_attention")
