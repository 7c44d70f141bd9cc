"""Which kind of layer each one is, from config.json: one word per layer.

`full`, `sliding`, `recurrent`, `parallel` and `parallel sliding` (attention beside a recurrent mixer), `indexed` (with
an indexer that picks tokens), `compressed` (a state for several tokens) or `none`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.formats.config import LAYERS, Config
from llmservice_runtime.formats.lists import per_layer
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.units import BACKWARDS, EXCEPTIONS, LAST_FULL, LATE_WINDOW, UNIFORM_WINDOW, UNITS, WORDS

_WORDS = {
    "full": (),
    "sliding": ("sliding_attention", "chunked_attention", "window_attention", "local", "swa", "local_attention"),
    "recurrent": ("linear_attention", "mamba", "mamba1", "mamba2", "conv", "kda", "linear", "m"),
    "none": ("mlp", "moe", "-", "e"),
    "parallel": ("hybrid",),
    "parallel sliding": ("hybrid_sliding",),
    "indexed": (
        "indexed_attention",
        "sparse_attention",
        "deepseek_sparse_attention",
        "minimax_m3_sparse",
        "qwen_sparse_attention",
    ),
    "compressed": ("compressed_sparse_attention", "heavily_compressed_attention"),
}
"""Ours -> theirs; all other words keep every token."""
_NORMAL = {theirs: ours for ours, words in _WORDS.items() for theirs in words}

MOST_LAYERS = 4096
WINDOWS = ("sliding_windows", "interleaved_sliding_window", "sliding_window")
"""Keys that may list a window per layer, or for the unit that layers repeat."""
_ONE_WINDOW = (
    "interleaved_sliding_window",
    "sliding_window",
    "sliding_window_size",
    "attention_chunk_size",
    "attention_window_size",
    "window_size",
    "local_attention",
)
_LISTED = frozenset({"nemotron_h", "cosmos3_edge"})
"""Families with as many layers as are listed, whatever the configuration counts."""
_WINDOWLESS = frozenset({"falcon", "RefinedWeb", "RefinedWebModel"})
"""Families whose layers take no window from anywhere (falcon.py)."""
_INCLUSIVE = frozenset({"cohere2", "cohere2_moe", "cohere2_vision"})
"""Families whose window is what a layer sees beside the token itself (commandr.py)."""
_LETTERS = {"M": "mamba", "*": "full", "-": "mlp", "E": "moe"}


def layer_words(config: Config) -> list[str]:
    """The word of every layer of the language model. Raises UnsupportedModel where a list is too short or too long."""
    count = layer_count(config)
    stated = _stated_words(config, count)
    words = [_normal(str(word), config) for word in stated] if stated else _derived_words(config, count)
    if words and family(config) in LAST_FULL:  # also where the list says otherwise
        words[-1] = "full"
    own = count - config.integer("num_kv_shared_layers")
    return [word if index < own or own <= 0 else "none" for index, word in enumerate(words)]


def layer_count(config: Config) -> int:
    """Blocks of the language model: of a pattern in letters its length, of a model with an encoder its decoder's, of
    one that runs through its blocks again with a cache of its own as many as that makes."""
    decoder = config.integer("decoder_layers", "num_decoder_layers") if config.get("is_encoder_decoder") is True else 0
    kind = family(config)
    listed = len(config.items_of("layers_block_type", "layer_types")) if kind in _LISTED else 0
    count = listed or len(_letters(config)) or decoder or config.layers
    if kind == "hrm":
        count = _cycled(config)
    elif kind == "cosmos3_edge" and not listed:
        count *= 2  # each is attention and a layer without
    if count > MOST_LAYERS:
        raise damaged(f"{config.name} claims {count} layers.")
    return count


def _cycled(config: Config) -> int:
    """HRM-Text: `H_cycles` of `L_cycles` runs of the one stack and one of the other (hrm_text.py)."""
    high, low = config.integer("H_cycles", default=2), config.integer("L_cycles", default=3)
    return config.integer("num_layers_per_stack", *LAYERS) * high * (low + 1)


def family(config: Config) -> str:
    """The language model's own `model_type`, without the ending of a part (`_text`)."""
    return config.text("model_type").removesuffix("_text").removesuffix("_model")


def block_part(config: Config, index: int, part: str) -> Mapping[str, Any]:
    """The part (`attention`, `ffn`) of a layer found by architecture search; empty where there is none."""
    blocks = config.items_of("block_configs")
    block = blocks[index] if index < len(blocks) else None
    found = block.get(part) if isinstance(block, dict) else None
    return found if isinstance(found, dict) else {}


def _letters(config: Config) -> str:
    pattern = config.get("hybrid_override_pattern")
    return pattern.replace("|", "") if isinstance(pattern, str) else ""


def _stated_words(config: Config, count: int) -> Sequence[Any]:
    """The list that configurations of hybrid models carry, under its many names; empty where there is none."""
    if family(config) in _LISTED and (listed := config.items_of("layers_block_type", "layer_types")):
        return listed
    if letters := _letters(config):
        return [_LETTERS.get(letter, "full") for letter in letters]
    if any(block_part(config, index, "attention") for index in range(count)):
        blocks = (block_part(config, i, "attention") for i in range(len(per_layer(config, "block_configs", count))))
        return ["none" if block.get("no_op") or block.get("replace_with_linear") else "full" for block in blocks]
    if words := config.items_of("block_types"):
        return [words[index % len(words)] for index in range(count)]  # RecurrentGemma's is the unit that repeats
    for key in ("layer_types", "layers_block_type", "attention_layers"):
        if config.items_of(key):
            return per_layer(config, key, count)
    if config.items_of("hybrid_layer_pattern"):
        return ["sliding" if slides == 1 else "full" for slides in per_layer(config, "hybrid_layer_pattern", count)]
    if config.items_of("attn_type_list"):
        return ["full" if kind == 1 else "linear" for kind in per_layer(config, "attn_type_list", count)]
    return _listed_layers(config, count) or _periods(config, count)


def _listed_layers(config: Config, count: int) -> list[str]:
    """Numbers of the layers that are of one kind, or flags."""
    linear = config.get("linear_attn_config")
    if isinstance(linear, dict) and isinstance(full := linear.get("full_attn_layers"), list):
        return _by_number(full, 1, "full", "linear", count)
    if attention := config.items_of("attn_layer_indices", "full_attn_idxs"):
        return _by_number(attention, 0, "full", "mamba", count)
    if (shared := config.items_of("hybrid_layer_ids")) and not family(config).startswith("mamba"):
        return _by_number(shared, 0, "hybrid", "mamba", count)
    if local := config.items_of("local_layer_ids"):
        return _by_number(local, 0, "hybrid_sliding", "hybrid", count)
    sparse = config.get("sparse_attention_config")
    if isinstance(sparse, dict) and isinstance(sparse.get("sparse_attention_freq"), list):
        chosen = per_layer(Config({**config, **sparse}, config.name), "sparse_attention_freq", count)
        return ["indexed_attention" if sparsely else "full" for sparsely in chosen]
    if config.items_of("no_rope_layers") and family(config) == "llama4":
        return ["chunked_attention" if rope else "full" for rope in per_layer(config, "no_rope_layers", count)]
    return []


def _by_number(numbers: Sequence[Any], first: int, listed: str, others: str, count: int) -> list[str]:
    """Words for layers that are listed by their numbers, counted from `first`, and for the others."""
    known = {number for number in numbers if type(number) is int}
    return [listed if index + first in known else others for index in range(count)]


def _periods(config: Config, count: int) -> list[str]:
    if period := config.integer("attn_layer_period"):
        offset = config.integer("attn_layer_offset")
        if family(config) == "zamba":  # counted behind the first three, of which the last has attention too
            return ["mamba", "mamba", "hybrid", *("hybrid" if i % period == offset else "mamba" for i in range(count))][
                :count
            ]
        return ["full" if index % period == offset else "mamba" for index in range(count)]
    if interval := config.integer("full_attention_interval", "layer_group_size"):
        full = "indexed_attention" if UNITS.get(family(config), "").endswith("I") else "full"
        whole = any(name.startswith("BailingMoeV3") for name in config.architectures)  # what is over is full there
        over = count // interval * interval if whole else count
        return [full if (index + 1) % interval == 0 or index >= over else "linear" for index in range(count)]
    if every := config.integer("no_rope_layer_interval"):
        return ["full" if (index + 1) % every == 0 else "chunked_attention" for index in range(count)]
    return []


def _derived_words(config: Config, count: int) -> list[str]:
    """Words for families that name no layer types."""
    kind = family(config)
    if config.items_of("compress_ratios"):
        return ["compressed"] * count
    if any(isinstance(config.get(key), list) for key in WINDOWS):
        return ["sliding" if window_of(config, index) else "full" for index in range(count)]
    usual = UNITS.get(kind, "")
    unit = _stated_unit(config, usual) or usual
    if unit:
        shift = -count % len(unit) if kind in BACKWARDS else 0
        letters = [unit[(index + shift) % len(unit)] for index in range(count)]
        for index, letter in EXCEPTIONS.get(kind, {}).items() if count else ():
            letters[index] = letter
        return [_normal(WORDS[letter], config) for letter in letters]
    if len(set(config.layer_unit)) > 1:  # a family without a rule: as its class's default goes on
        return [_normal(config.layer_unit[index % len(config.layer_unit)], config) for index in range(count)]
    if config.integer("index_topk"):
        return ["indexed"] * count
    if config.get("use_sliding_window") and kind in LATE_WINDOW:
        first = config.integer("max_window_layers")
        return [_normal("sliding" if index >= first else "full", config) for index in range(count)]
    slides = kind in UNIFORM_WINDOW or config.integer("interleaved_sliding_window") > 0
    return [_normal("sliding" if slides else "full", config)] * count


def _stated_unit(config: Config, usual: str) -> str:
    """The unit of layers that slide and don't, where the configuration has its length; it ends with the full one
    unless the family's begins with it."""
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern")
    if isinstance(pattern, str) and re.fullmatch("[LG]+", pattern):
        return pattern.replace("G", "F").replace("L", "S")
    every = pattern if type(pattern) is int else config.integer("global_attn_every_n_layers")
    if not 0 < every <= MOST_LAYERS:
        return ""
    return "F" + "S" * (every - 1) if usual.startswith("F") else "S" * (every - 1) + "F"


def _normal(word: str, config: Config) -> str:
    lower = word.lower()
    ours = lower if lower in _WORDS else _NORMAL.get(lower, "full")
    if ours.endswith("sliding") and not any_window(config):
        return "parallel" if ours.startswith("parallel") else "full"
    return ours


def window_everywhere(config: Config) -> int:
    """The window of a family that has none, whose class tells no kinds of layers; 0 = none is stated. vLLM gives it to
    every layer (arg_utils.py: CacheConfig.sliding_window), Transformers to none."""
    listed = config.layer_unit or config.items_of("layer_types", *WINDOWS) or family(config) in _WINDOWLESS
    return 0 if listed or config.get("use_sliding_window") is False else config.integer("sliding_window")


def any_window(config: Config) -> bool:
    """Whether layers that slide have a window."""
    return window_of(config, 0) > 0 or bool(config.items_of(*WINDOWS))


def window_of(config: Config, index: int) -> int:
    """Tokens that a sliding layer sees; 0 = the window is off."""
    if config.get("use_sliding_window") is False:
        return 0
    for key in WINDOWS:
        if windows := config.items_of(key):
            own = windows[index % len(windows)]
            return own if type(own) is int and own > 0 else 0
    window = config.integer("attention_chunk_size" if family(config) == "llama4" else "", *_ONE_WINDOW)
    return window + 1 if window and family(config) in _INCLUSIVE else window
