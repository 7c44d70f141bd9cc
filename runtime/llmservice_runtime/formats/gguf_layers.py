"""What each layer keeps per sequence, from a GGUF's keys, as llama.cpp 0.3.36 allocates it."""

from __future__ import annotations

from typing import Any

from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.layers import grouped
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.recurrent import ELEMENT_BYTES, mamba_elements

PATTERNS = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma4": 6, "gemma-embedding": 6, "cohere2": 4, "llama4": 4, "gpt-oss": 2,
    "exaone4": 4, "exaone-moe": 4, "olmo2": 4, "afmoe": 4, "plamo3": 8, "mellum": 4, "mimo2": 6, "step35": 4, "lfm2": 1,
    "smallthinker": 4, "cohere2moe": 4, "laguna": 4, "modern-bert": 3,
}  # fmt: skip
"""Architectures whose window llama.cpp honours, and every how many layers one is full; others keep every token."""
DENSE_FIRST = frozenset({"smallthinker", "cohere2moe", "laguna", "modern-bert"})
"""Of these the first layer of a period is the full one, not the last."""
FULL_INTERVAL = frozenset({"qwen3next", "qwen35", "qwen35moe", "minimax-01"})
RECURRENT = ("mamba", "rwkv", "arwkv", "rwkv6qwen2")
PARALLEL = frozenset({"falcon-h1"})
"""Attention and a recurrent mixer in every layer."""

_LIMIT = 1 << 40


class ArchitectureKeys:
    """The keys below `<architecture>.`; numbers are checked, per-layer arrays indexed."""

    def __init__(self, values: dict[str, Any], architecture: str, name: str) -> None:
        self._values = values
        self.architecture = architecture
        self.name = name

    def get(self, key: str) -> Any:
        """The raw value, None where it is missing."""
        return self._values.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: int = 0, layer: int | None = None) -> int:
        """A non-negative integer; of a per-layer array the element of `layer`, or the largest one."""
        value = self.get(key)
        if isinstance(value, tuple) and value:
            numbers = [item for item in value if type(item) in (int, bool)]
            if len(numbers) != len(value):
                raise damaged(f"{self.name} has impossible values for {self.architecture}.{key}.")
            value = max(numbers) if layer is None else numbers[min(layer, len(numbers) - 1)]
        if value is None or value == ():
            return default
        if type(value) not in (int, bool) or not 0 <= value < _LIMIT:
            raise damaged(f"{self.name} has the impossible value {repr(value)[:60]} for {self.architecture}.{key}.")
        return int(value)


def gguf_layer_groups(keys: ArchitectureKeys) -> tuple[LayerGroup, ...]:
    """All layers, equal ones together."""
    count = keys.number("block_count") - keys.number("nextn_predict_layers")
    if count > 4096:
        raise damaged(f"{keys.name} claims {count} layers.")
    own_kv = count - keys.number("attention.shared_kv_layers")
    return grouped(_layer(keys, index, index < own_kv) for index in range(count))


def _layer(keys: ArchitectureKeys, index: int, own_kv: bool) -> LayerGroup:
    heads = keys.number("attention.head_count", layer=index)
    kv_heads = keys.number("attention.head_count_kv", default=heads, layer=index)
    if _recurrent(keys, index, kv_heads):
        return LayerGroup(LayerKind.RECURRENT, 1, state_bytes=_state_bytes(keys, heads))
    if not own_kv or (heads and not kv_heads):
        return LayerGroup(LayerKind.NONE, 1)
    sliding = _sliding(keys, index)
    default = keys.number("embedding_length") // max(1, heads)
    k_dim = keys.number("attention.key_length", default, index)
    v_dim = keys.number("attention.value_length", default, index)
    if keys.number("attention.key_length_mla"):
        return LayerGroup(LayerKind.MLA, 1, kv_heads=1, k_dim=k_dim)
    if sliding:
        k_dim = keys.number("attention.key_length_swa", k_dim)
        v_dim = keys.number("attention.value_length_swa", v_dim)
        return LayerGroup(LayerKind.SLIDING, 1, kv_heads, k_dim, v_dim, window=sliding)
    state = _state_bytes(keys, heads) if keys.architecture in PARALLEL else 0
    return LayerGroup(LayerKind.FULL, 1, kv_heads, k_dim, v_dim, state_bytes=state)


def _recurrent(keys: ArchitectureKeys, index: int, kv_heads: int) -> bool:
    if keys.architecture.startswith(RECURRENT):
        return True
    if keys.architecture in FULL_INTERVAL:
        return (index + 1) % (keys.number("full_attention_interval") or 4) != 0
    has_state = any(keys.get(key) for key in ("ssm.inner_size", "shortconv.l_cache", "kda.head_dim", "wkv.head_size"))
    mlp_only = keys.architecture.startswith("nemotron_h") and keys.number("feed_forward_length", layer=index) > 0
    return has_state and kv_heads == 0 and not mlp_only


def _sliding(keys: ArchitectureKeys, index: int) -> int:
    """The window of this layer; 0 = it keeps every token."""
    window = keys.number("attention.sliding_window", layer=index)
    if keys.architecture == "llama4":
        window = window or 8192
    if not window or keys.architecture not in PATTERNS:
        return 0
    pattern = keys.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and pattern:
        return window if index < len(pattern) and pattern[index] else 0
    every = keys.number("attention.sliding_window_pattern", PATTERNS[keys.architecture])
    full = 0 if keys.architecture in DENSE_FIRST else every - 1
    return window if every == 0 or index % every != full else 0


def _state_bytes(keys: ArchitectureKeys, heads: int) -> int:
    """llama.cpp's n_embd_r + n_embd_s, in 32 bits."""
    width = keys.number("embedding_length")
    if head := keys.number("wkv.head_size"):
        return ELEMENT_BYTES * width * (keys.number("token_shift_count", 2) + head)
    if window := keys.number("shortconv.l_cache"):
        return ELEMENT_BYTES * width * (window - 1)
    kernel = keys.number("ssm.conv_kernel")
    if dim := keys.number("kda.head_dim"):
        every_head = heads or keys.number("attention.head_count")
        return ELEMENT_BYTES * every_head * dim * (3 * max(0, (kernel or 4) - 1) + dim)
    inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    return ELEMENT_BYTES * mamba_elements(inner, state, kernel, keys.number("ssm.group_count"))
