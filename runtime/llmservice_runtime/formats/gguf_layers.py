"""What each layer keeps per sequence, from a GGUF's keys, as llama.cpp 0.3.36 allocates it."""

from __future__ import annotations

from typing import Any

from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.layers import grouped
from llmservice_runtime.formats.ranges import damaged, impossible
from llmservice_runtime.formats.recurrent import ELEMENT_BYTES, mamba_elements

PATTERNS = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma4": 6, "gemma-embedding": 6, "cohere2": 4, "llama4": 4, "gpt-oss": 2,
    "exaone4": 4, "exaone-moe": 4, "olmo2": 4, "afmoe": 4, "plamo3": 8, "mellum": 4, "muse-glimmer": 4,
    "smallthinker": 4, "cohere2moe": 4, "laguna": 4, "modern-bert": 3, "lfm2": 0,
    "granite_swa": 1, "mimo2": 1, "step35": 1, "dots3note": 1, "maple": 1, "spark2_5": 1,
}  # fmt: skip
"""Architectures whose window llama.cpp honours, and every how many layers one is full (0 = none, 1 = all but those that
an array names); others keep every token."""
DENSE_FIRST = frozenset({"smallthinker", "cohere2moe", "laguna", "modern-bert"})
"""Of these the first layer of a period is the full one, not the last."""
WINDOWS = {"llama4": 8192, "gemma2": 4096, "exaone4": 4096, "exaone-moe": 128, "smallthinker": 4096}
"""Windows where the key is missing."""
SLIDING_SIZES = {"exaone4": 64}
"""Layers of the one size whose window is honoured."""
FULL_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
"""Every n-th layer is full, the others are recurrent, where no key says."""
RECURRENT = ("mamba", "rwkv", "arwkv", "rwkv6qwen2")
PARALLEL = frozenset({"falcon-h1"})
"""Attention and a recurrent mixer in every layer."""
OWN_KV = {"gemma3n": 20}
"""Layers from the first on that keep KV, where it is no matter of keys."""
LOOPS = frozenset({"nanbeige"})
"""Layers run several times, with KV of their own each time."""
LINEAR = frozenset({"minimax-01"})
"""Recurrent layers keep one square matrix per head."""

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
                raise impossible(self.name, f"{self.architecture}.{key}", value)
            if layer is not None and layer >= len(numbers):
                raise damaged(
                    f"{self.architecture}.{key} of {self.name} lists {len(numbers)} layers, the model has more."
                )
            value = max(numbers) if layer is None else numbers[layer]
        if value is None or value == ():
            return default
        if type(value) not in (int, bool) or not 0 <= value < _LIMIT:
            raise impossible(self.name, f"{self.architecture}.{key}", value)
        return int(value)


def gguf_layer_groups(keys: ArchitectureKeys) -> tuple[LayerGroup, ...]:
    """All layers, equal ones together. Raises UnsupportedModel where an array does not cover the layers."""
    blocks = keys.number("block_count")
    if blocks > 4096:
        raise damaged(f"{keys.name} claims {blocks} layers.")
    count = blocks - keys.number("nextn_predict_layers")
    own_kv = OWN_KV.get(keys.architecture) or count - keys.number("attention.shared_kv_layers")
    loops = min(keys.number("num_loops", 1), 4096) if keys.architecture in LOOPS else 1
    return grouped(_layer(keys, index, count, index < own_kv) for _ in range(loops) for index in range(count))


def _layer(keys: ArchitectureKeys, index: int, count: int, own_kv: bool) -> LayerGroup:
    heads = keys.number("attention.head_count", layer=index)
    kv_heads = keys.number("attention.head_count_kv", default=heads, layer=index)
    if _recurrent(keys, index, kv_heads):
        return LayerGroup(LayerKind.RECURRENT, 1, state_bytes=_state_bytes(keys, heads))
    if not own_kv or (not kv_heads and keys.number("attention.head_count")):  # of a list the largest
        return LayerGroup(LayerKind.NONE, 1)
    sliding = _sliding(keys, index, count)
    default = keys.number("embedding_length") // max(1, heads)
    ending = "_swa" if sliding else ""
    k_dim = keys.number(f"attention.key_length{ending}", keys.number("attention.key_length", default, index))
    v_dim = keys.number(f"attention.value_length{ending}", keys.number("attention.value_length", default, index))
    if keys.number("attention.key_length_mla"):
        kv_heads, v_dim = 1, 0
    if sliding:
        return LayerGroup(LayerKind.SLIDING, 1, kv_heads, k_dim, v_dim, window=sliding)
    if keys.get("attention.compress_ratios") and keys.architecture == "deepseek4":
        return _compressed(keys, index, k_dim)
    indexer = _indexer(keys, index)
    if not v_dim:
        return LayerGroup(LayerKind.MLA, 1, kv_heads=1, k_dim=k_dim + indexer)
    state = _state_bytes(keys, heads) if keys.architecture in PARALLEL else 0
    return LayerGroup(LayerKind.FULL, 1, kv_heads, k_dim, v_dim, state_bytes=state, index_bytes=2 * indexer)


def _indexer(keys: ArchitectureKeys, index: int) -> int:
    """Elements of an indexer's key; 0 where the layer has none of its own (llama-kv-cache-dsa.cpp, -msa.cpp)."""
    if index < keys.number("leading_dense_block_count") and keys.architecture == "minimax-m3":
        return 0
    own = keys.number("attention.indexer.types", 1, layer=index)
    return keys.number("attention.indexer.key_length") if own and keys.number("attention.indexer.top_k", 1) else 0


def _compressed(keys: ArchitectureKeys, index: int, k_dim: int) -> LayerGroup:
    """DeepSeek V4: a window in every layer, and a state for every few tokens (llama-kv-cache-dsv4.cpp)."""
    ratio = keys.number("attention.compress_ratios", layer=index)
    window = keys.number("attention.sliding_window")
    if ratio <= 1:
        return LayerGroup(LayerKind.SLIDING, 1, 1, k_dim, window=window)
    kept = k_dim + (keys.number("attention.indexer.key_length") if ratio == 4 else 0)
    state = 2 * k_dim * window + 2 * ELEMENT_BYTES * k_dim * (4 * ratio if ratio == 4 else ratio)
    return LayerGroup(LayerKind.MLA, 1, 1, kept, state_bytes=state, tokens_per_state=ratio)


def _recurrent(keys: ArchitectureKeys, index: int, kv_heads: int) -> bool:
    if keys.architecture.startswith(RECURRENT):
        return True
    if every := FULL_INTERVAL.get(keys.architecture):
        if keys.get("attention.recurrent_layers") is not None:
            return keys.number("attention.recurrent_layers", layer=index) > 0
        return (index + 1) % (keys.number("full_attention_interval") or every) != 0
    has_state = any(keys.get(key) for key in ("ssm.inner_size", "shortconv.l_cache", "kda.head_dim", "wkv.head_size"))
    mlp_only = keys.architecture.startswith("nemotron_h") and keys.number("feed_forward_length", layer=index) > 0
    return has_state and kv_heads == 0 and not mlp_only


def _sliding(keys: ArchitectureKeys, index: int, count: int) -> int:
    """The window of this layer; 0 = it keeps every token."""
    if keys.architecture not in PATTERNS or SLIDING_SIZES.get(keys.architecture, count) != count:
        return 0
    window = keys.number("attention.sliding_window", WINDOWS.get(keys.architecture, 0))
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
    if keys.architecture in LINEAR:
        dim = keys.number("attention.key_length", width // max(1, heads))
        return ELEMENT_BYTES * heads * dim * dim
    inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    return ELEMENT_BYTES * mamba_elements(inner, state, kernel, keys.number("ssm.group_count"))
