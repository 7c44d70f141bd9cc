"""Sizes of a model that engines divide among GPUs, from config.json, each with the key that states it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_runtime.formats.config import EXPERTS, HEAD_DIM, Config
from llmservice_runtime.formats.facts import Width, WidthKind

DENSE = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "d_ff", "ff_dim", "inner_hidden_size")
"""Feed-forward widths of ordinary layers, of which a family has one."""
ALWAYS_DENSE = ("ffn_hidden_size", "intermediate_size_mlp", "prefix_dense_intermediate_size", "dense_intermediate_size")
"""Those of ordinary layers also where there are experts."""
EXPERT = (
    "moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_intermediate_size",
    "expert_hidden_dim", "intermediate_size_moe",
)  # fmt: skip
SHARED = (
    "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size",
    "share_expert_dim",
)  # fmt: skip
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
HEADS = (
    "swa_num_attention_heads", "linear_num_key_heads", "linear_num_value_heads", "mamba_n_heads", "mamba_num_heads",
    "n_mamba_heads",
)  # fmt: skip
"""Heads of other kinds than num_attention_heads."""
WHOLE_HEADS = ("intern", "gemma3n", "gemma4", "nemotron", "nvlm", "h2ovl", "radio")
"""Model types of what sees whose heads stay whole: InternViT fills them up, others are the code of Transformers."""
GROUPS = ("mamba_n_groups", "mamba_ngroups", "n_groups")


def widths(config: Config) -> tuple[Width, ...]:
    """All that are stated, each once; sizes that can't be are left to whoever reads the same keys as facts."""
    found = [*_attention(config), *_feed_forward(config), *_states(config), *_tower(config)]
    return tuple(dict.fromkeys(width for width in found if width.size > 0))


def _attention(config: Config) -> Iterator[Width]:
    """What the output projection takes in."""
    heads = config.heads
    dim = config.integer("v_head_dim") or config.integer(*HEAD_DIM) or (config.hidden // heads if heads else 0)
    yield Width("num_attention_heads * head_dim", heads * dim, WidthKind.ATTENTION)


def _feed_forward(config: Config) -> Iterator[Width]:
    halved = 2 if config.text("model_type") == "qwen" else 1  # gate and up together
    dense = [Width(key, size // halved, WidthKind.DENSE) for key in DENSE[:1] for size in _sizes(config, key)]
    if config.name == "params.json":
        dense = [Width("hidden_dim", size, WidthKind.DENSE) for size in _sizes(config, "hidden_dim")]
    dense = dense or [Width(key, size, WidthKind.DENSE) for key in DENSE[1:] for size in _sizes(config, key)][:1]
    if not any(size for key in EXPERTS for size in _sizes(config, key)):
        yield from dense
        return
    experts = [Width(key, size, WidthKind.EXPERT) for key in EXPERT for size in _sizes(config, key)]
    yield from experts or (Width(width.name, width.size, WidthKind.EXPERT) for width in dense)
    yield from (Width(key, size, WidthKind.DENSE) for key in ALWAYS_DENSE for size in _sizes(config, key))
    if experts and _has_dense_layers(config):
        yield from dense
    shared = [Width(key, size, WidthKind.DENSE) for key in SHARED for size in _sizes(config, key)]
    counts = next((found for key in SHARED_EXPERTS if (found := _sizes(config, key))), ())
    if not shared and experts:
        shared = [Width(f"{count} * {experts[0].name}", count * experts[0].size, WidthKind.DENSE) for count in counts]
    yield from shared


def _has_dense_layers(config: Config) -> bool:
    """Whether some layers of a mixture of experts are ordinary ones, as families say it."""
    steps = config.integer("decoder_sparse_step", "interleave_moe_layer_step", "expert_layer_period", default=1)
    first = config.integer("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers", "moe_k_dense")
    frequencies = config.items_of("moe_layer_freq")
    kinds = config.items_of("mlp_layer_types")
    return bool(
        steps > 1
        or first
        or config.items_of("mlp_only_layers")
        or config.get("moe_layers_enum")
        or any(frequency == 0 for frequency in frequencies)
        or "dense" in kinds
    )


def _states(config: Config) -> Iterator[Width]:
    """Recurrent layers are divided by heads, those of the first Mamba by channels."""
    for key in HEADS:
        yield from (Width(key, size, WidthKind.HEADS) for size in _sizes(config, key))
    linear = _whole(_nested(config, "linear_attn_config").get("num_heads"))
    yield Width("linear_attn_config.num_heads", linear, WidthKind.HEADS)
    if any(key in config for key in ("mamba_n_heads", "mamba_num_heads", "n_mamba_heads")):
        yield Width("n_groups", config.integer(*GROUPS), WidthKind.GROUPS)
    elif expand := config.integer("mamba_expand"):
        yield Width("mamba_expand * hidden_size", expand * config.hidden, WidthKind.HEADS)
    for key in ("mamba_d_ssm", "mamba_d_inner", "mamba_intermediate_size"):
        yield from (Width(key, size, WidthKind.HEADS) for size in _sizes(config, key))


def _tower(config: Config) -> Iterator[Width]:
    """The feed-forward blocks of what sees or hears, and the heads that see where they are divided."""
    for part in ("vision_config", "vision_encoder_config", "audio_config"):
        tower = _nested(config, part)
        yield Width(f"{part}.intermediate_size", _whole(tower.get("intermediate_size")), WidthKind.TOWER)
        kind = str(tower.get("model_type") or config.root.get("model_type") or "").lower()
        if part != "audio_config" and not kind.startswith(WHOLE_HEADS):
            for key in ("num_heads", "num_attention_heads"):
                yield Width(f"{part}.{key}", _whole(tower.get(key)), WidthKind.TOWER)


def _sizes(config: Config, key: str) -> tuple[int, ...]:
    """What a key says: a size, or one per layer; empty where it says none."""
    stated = config.get(key)
    if stated is None:
        stated = _nested(config, "ffn_config").get(key)
    sizes = map(_whole, stated if isinstance(stated, list) else [stated])
    return tuple(size for size in sizes if size)


def _nested(config: Config, key: str) -> Mapping[str, Any]:
    value = config.root.get(key, config.get(key))
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int:
    """0 where it is no size."""
    return value if type(value) is int and 0 < value < 1 << 40 else 0
