"""Values of config.json that no model can have: refused here by name, before anything is computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_runtime.formats import rope
from llmservice_runtime.formats.classes import NESTED
from llmservice_runtime.formats.config import EXPERTS, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, Config
from llmservice_runtime.formats.context import LIMIT
from llmservice_runtime.formats.lists import wrong_length
from llmservice_runtime.formats.ranges import contradictory, impossible

MOST: Mapping[str, int] = {
    **dict.fromkeys(LAYERS, 4096),
    **dict.fromkeys(HIDDEN, 1 << 20),
    **dict.fromkeys((*HEADS, *KV_HEADS), 1 << 16),
    **dict.fromkeys(("vocab_size", "padded_vocab_size"), 1 << 26),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "ffn_hidden_size"), 1 << 24),
}
"""Sizes that are at least 1 wherever they are stated -> a bound far above every model's."""
FROM_ZERO: Mapping[str, int] = {
    **dict.fromkeys((*HEAD_DIM, "v_head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "global_head_dim"), 1 << 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 1 << 20),
    **dict.fromkeys((*EXPERTS, "num_experts_per_tok"), 1 << 16),
}
"""Sizes that may be 0, which is none."""
PER_LAYER = ("num_attention_heads", "intermediate_size", "rope_theta", "partial_rotary_factors")
"""Lists with an entry for each layer that nothing here reads layer by layer (`lists.per_layer` has the others):
engines refuse shorter ones, or fail at the first layer that has none."""
WINDOWS = ("sliding_window", "sliding_windows", "interleaved_sliding_window", "attention_chunk_size")
FACTORS = ("rope_theta", "rotary_emb_base", "partial_rotary_factor", "rotary_pct")
SHARES = ("partial_rotary_factor", "rotary_pct")
"""Factors that are shares of a whole."""
KINDS = ("layer_types", "layers_block_type", "block_types")
"""Lists of words, one for each layer or for the unit that layers repeat."""
GENERATION: Mapping[str, tuple[float, float, bool]] = {
    "temperature": (0, math.inf, False),
    "top_p": (0, 1, False),
    "min_p": (0, 1, False),
    "top_k": (-1, math.inf, True),
    "repetition_penalty": (0, math.inf, False),
    "max_new_tokens": (1, math.inf, True),
    "max_length": (1, math.inf, True),
}
"""What a request may state -> least, most, and whether it is a whole number."""
TORCH_TYPES = frozenset({
    "bfloat16", "bit", "bits16", "bits1x8", "bits2x4", "bits4x2", "bits8", "bool", "cdouble", "cfloat", "chalf",
    "complex128", "complex32", "complex64", "double", "float", "float16", "float32", "float4_e2m1fn_x2", "float64",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "half", "int", "int1",
    "int16", "int2", "int3", "int32", "int4", "int5", "int6", "int64", "int7", "int8", "long", "qint32", "qint8",
    "quint2x4", "quint4x2", "quint8", "short", "uint1", "uint16", "uint2", "uint3", "uint32", "uint4", "uint5",
    "uint6", "uint64", "uint7", "uint8",
})  # fmt: skip
"""Names of types that the engines' torch has. Transformers looks there for what a configuration states, and vLLM reads
configurations with it."""
NO_HEADS = ("mamba", "falcon_mamba", "rwkv", "xlstm")
"""Beginnings of model types without attention."""


def check(config: Config) -> None:
    """Raises UnsupportedModel for the first value that can't be."""
    for key, value in config.items():
        if value is None:
            continue
        if key in MOST or key in FROM_ZERO:
            least = 1 if key in MOST and not _headless(config, key) else 0
            for one in value if isinstance(value, list) else (value,):
                if one is not None and not _is_size(one, 0 if isinstance(value, list) else least, _most(key)):
                    raise impossible(config.name, key, one)
        elif key in FACTORS and not _is_factor(value, 1 if key in SHARES else math.inf):
            raise impossible(config.name, key, value)
    for key in NESTED:
        if config.root.get(key) is not None and not isinstance(config.root[key], dict):
            raise impossible(config.name, key, config.root[key])
    _check_names(config)
    _check_types(config)
    _check_quantization(config)
    _check_windows(config)
    _check_lists(config)
    _check_heads(config)
    _check_experts(config)
    rope.check(config)


def check_generation(values: Mapping[str, Any]) -> None:
    """generation_config.json, whose values engines take for requests that state none."""
    for key, (least, most, whole) in GENERATION.items():
        value = values.get(key)
        if value is None:
            continue
        number = type(value) is int or (type(value) is float and math.isfinite(value) and (not whole or value % 1 == 0))
        if not number or not least <= value <= most:
            raise impossible("generation_config.json", key, value)


def _check_names(config: Config) -> None:
    """`architectures` lists names: anything else would be taken for none, and engines fail at it."""
    for key, kind in (("architectures", list), ("model_type", str)):
        value = config.root.get(key)
        if value is not None and not isinstance(value, kind):
            raise impossible(config.name, key, value)
    for name in config.root.get("architectures") or ():
        if not isinstance(name, str) or not name.strip():
            raise impossible(config.name, "architectures", name)


def _check_types(config: Config) -> None:
    """`auto`, `BF16` and `torch.bfloat16` are no names of torch's: no engine gets past them."""
    for part in (config.root, *(part for key in NESTED if isinstance(part := config.root.get(key), dict))):
        for key in ("torch_dtype", "dtype"):
            value = part.get(key)
            if value is not None and not isinstance(value, dict) and str(value) not in TORCH_TYPES:
                raise impossible(config.name, key, value)


def _check_quantization(config: Config) -> None:
    """vLLM asks it for names, and the name of its method for letters: of anything else it ends."""
    for part in (config.root, *(part for key in NESTED if isinstance(part := config.root.get(key), dict))):
        for key in ("quantization_config", "compression_config"):
            value = part.get(key)
            if value is not None and not isinstance(value, dict):
                raise impossible(config.name, key, value)
            if value and not isinstance(value.get("quant_method", ""), str):
                raise impossible(config.name, f"quant_method in {key}", value["quant_method"])


def _check_windows(config: Config) -> None:
    """Tokens that a layer sees; 0 is no window. Engines take -1 for one of no tokens."""
    for key in WINDOWS:
        value = config.get(key)
        least = -1 if isinstance(value, list) else 0
        for one in value if isinstance(value, list) else (value,):
            if one is not None and (type(one) not in (int, float) or not _is_size(one, least, LIMIT)):
                raise impossible(config.name, key, one)


def _check_lists(config: Config) -> None:
    layers = config.layers
    for key in PER_LAYER:
        value = config.get(key)
        if isinstance(value, list) and 0 < len(value) < layers:
            raise wrong_length(config.name, key, len(value), layers)
    for key in KINDS:
        for one in config.items_of(key):
            if not isinstance(one, str):
                raise impossible(config.name, key, one)
    for key in KV_HEADS:
        if (heads := config.items_of(key)) and config.heads and not any(heads):
            raise impossible(config.name, key, heads)


def _check_heads(config: Config) -> None:
    """Heads divide the width where nothing else says how large they are, and KV heads divide heads."""
    if isinstance(config.get("num_attention_heads"), list) or config.integer("kv_lora_rank"):
        return
    heads, hidden = config.heads, config.hidden
    if heads and hidden % heads and not any(config.get(key) for key in (*HEAD_DIM, "hidden_size_per_head")):
        raise contradictory(f"{config.name} has a width of {hidden} that {heads} attention heads do not divide.")
    for kv_heads in _kv_heads(config):
        if heads and kv_heads and heads % kv_heads:
            raise contradictory(f"{config.name} has {heads} attention heads, which {kv_heads} KV heads do not divide.")


def _kv_heads(config: Config) -> Iterator[int]:
    value = next((value for key in KV_HEADS if (value := config.get(key)) is not None), 0)
    yield from (int(one) for one in (value if isinstance(value, list) else (value,)) if one and one != "auto")


def _check_experts(config: Config) -> None:
    chosen = config.get("num_experts_per_tok")
    if type(chosen) is int and 0 < config.experts < chosen:
        raise contradictory(f"{config.name} asks {chosen} experts for a token and has {config.experts}.")


def _headless(config: Config, key: str) -> bool:
    return key in (*HEADS, *KV_HEADS) and config.text("model_type").startswith(NO_HEADS)


def _most(key: str) -> int:
    return MOST.get(key) or FROM_ZERO[key]


def _is_size(value: Any, least: int, most: int) -> bool:
    if value == "auto":
        return True
    return type(value) in (int, float) and least <= value <= most and value == int(value)


def _is_factor(value: Any, most: float) -> bool:
    if isinstance(value, (dict, list)):  # one per kind of layer, or per layer (Step 3.5)
        ones = value.values() if isinstance(value, dict) else value
        return all(one is None or _is_factor(one, most) for one in ones)
    return type(value) in (int, float) and 0 <= value <= most and value != math.inf
