"""Layers that keep one latent per token instead of heads (MLA), an indexer's keys, or a state for several tokens."""

from __future__ import annotations

from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.facts import LayerGroup, LayerKind
from llmservice_runtime.formats.lists import per_layer
from llmservice_runtime.formats.patterns import family, layer_count, window_of
from llmservice_runtime.formats.ranges import damaged

UNPACKED = frozenset({"minicpm3"})
"""Families with latents for which engines keep the keys and values of every head."""
SLIDING = frozenset({"dots3_note"})
"""Families with latents that have a window."""
INDEX_BLOCK = 128
"""Elements of an indexer's key that share a scale of four bytes (vLLM 0.32: deepseek_v2.py)."""

FINE, COARSE = 4, 128
"""Tokens of one state in DeepSeek V4's layers, those with an indexer and those without (vLLM 0.32: deepseek_v4)."""


def keeps_latents(config: Config) -> bool:
    """Whether a latent is kept per token."""
    if not config.integer("kv_lora_rank") or config.get("use_mla") is False:
        return False
    return family(config) not in UNPACKED


def latent(config: Config, index: int, slides: bool) -> LayerGroup:
    """A layer with latents; LongCat has two attentions in each layer, so two of them. Only Dots 3 Note's slide: other
    families keep every latent, whatever their configuration says of a window."""
    slides = slides and family(config) in SLIDING
    rank, rope = config.integer("kv_lora_rank"), config.integer("qk_rope_head_dim")
    # Where latents that slide are larger, all rows are (vLLM 0.32: dots3_note).
    wide = config.integer("swa_kv_lora_rank", default=rank) + config.integer("swa_qk_rope_head_dim", default=rope)
    if slides:
        return LayerGroup(LayerKind.SLIDING, 1, 1, wide, window=window_of(config, index))
    dim = max(rank + rope, wide)
    return LayerGroup(LayerKind.MLA, 1, _attentions(config), dim, index_bytes=index_bytes(config, index))


def _attentions(config: Config) -> int:
    return 2 if family(config).startswith("longcat") and config.integer("num_layers") == layer_count(config) else 1


def index_bytes(config: Config, index: int) -> int:
    """Bytes per token that the layer's indexer keeps; 0 where it has none, or reuses another's.

    DeepSeek's and GLM's keys are 8-bit values with scales, of GLM 5 Next one for a pool of tokens. MiniMax M3's and
    Qwen 4's, one for a group of tokens, have 16 bits (vLLM 0.32: deepseek_v2.py, glm5next, minimax_m3, qwen4_exp).
    """
    sparse = config.get("sparse_attention_config")
    if isinstance(sparse, dict):
        return 2 * Config(sparse, config.name).integer("sparse_index_dim")
    if dim := config.integer("indexer_head_dim"):
        return -(-2 * dim // max(1, config.integer("indexer_compress_ratio")))
    dim = config.integer("index_head_dim")
    if not dim or not config.integer("index_topk") or _shares_indexer(config, index):
        return 0
    return -(-(dim + 4 * (dim // INDEX_BLOCK)) // max(1, config.integer("index_kpool")))


def _shares_indexer(config: Config, index: int) -> bool:
    """Whether the layer takes the tokens that an earlier layer's indexer picked."""
    if config.items_of("indexer_types"):
        return bool(per_layer(config, "indexer_types", layer_count(config))[index] == "shared")
    pattern = config.text("index_topk_pattern")
    if pattern:
        return index < len(pattern) and pattern[index] == "S"
    every, offset = config.integer("index_topk_freq", default=1), config.integer("index_skip_topk_offset", default=2)
    return max(index - offset + 1, 0) % max(1, every) != 0


def compressed(config: Config, index: int) -> LayerGroup:
    """A layer of DeepSeek V4: a state for every few tokens, an indexer where they are few, and a window."""
    ratio, dim = _ratio(config, index), config.integer("head_dim")
    window = config.integer("sliding_window", default=128)
    if ratio <= 1:
        return LayerGroup(LayerKind.SLIDING, 1, 1, dim, window=window)
    overlap = 2 if ratio == FINE else 1  # of the tokens that go into two states: keys and scores, in 32 bits
    ring = 4 * 2 * overlap * dim * overlap * ratio
    indexer = index_bytes(config, index) if ratio == FINE else 0
    state = 2 * dim * window + ring
    return LayerGroup(LayerKind.MLA, 1, 1, dim, state_bytes=state, index_bytes=indexer, tokens_per_state=ratio)


def _ratio(config: Config, index: int) -> int:
    """Tokens that one state of the layer stands for; at most 1 = the layer has a window only."""
    if not config.items_of("compress_ratios"):
        words = config.items_of("layer_types")
        return COARSE if index < len(words) and words[index] == "heavily_compressed_attention" else FINE
    ratio = per_layer(config, "compress_ratios", layer_count(config))[index]
    if type(ratio) is not int or not 0 <= ratio <= COARSE:
        raise damaged(f"{config.name} has the impossible value {str(ratio)[:60]} in compress_ratios.")
    return ratio
