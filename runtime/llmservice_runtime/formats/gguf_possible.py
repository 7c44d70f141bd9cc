"""Values of a GGUF's header that no model can have, and those that llama.cpp 0.3.36 refuses or aborts at
(llama-model.cpp: load_hparams): refused here by name, before anything is computed from them."""

from __future__ import annotations

import math

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.gguf_layers import RECURRENT, ArchitectureKeys
from llmservice_runtime.formats.lists import wrong_length
from llmservice_runtime.formats.ranges import contradictory, impossible

NEEDED = {"block_count": 512, "context_length": 1 << 30, "embedding_length": 1 << 20}
"""Keys that llama.cpp asks for -> the most there can be; of blocks its own bound."""
PER_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length", "expert_used_count")
"""Arrays with exactly one number for each block."""
SCALINGS = frozenset({"none", "linear", "yarn", "longrope"})
FACTORS = ("rope.freq_base", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.attn_factor")
MOST_EXPERTS = 1024
HEAD_BOUND = 1 << 16


def check(keys: ArchitectureKeys) -> None:
    """Raises UnsupportedModel for the first value that can't be."""
    if keys.number("vision.block_count"):
        raise UnsupportedModel(
            f"{keys.name} has the part that sees pictures in the same file ({keys.architecture}.vision.block_count), "
            "as Ollama's own conversions have it, and llama.cpp loads no such file.",
            "Take one of llama.cpp's converter, as hubs have them: there that part is a file of its own (mmproj).",
        )
    for key, most in NEEDED.items():
        if keys.get(key) is None:
            raise contradictory(
                f"{keys.name} has no {keys.architecture}.{key}, without which llama.cpp loads no model."
            )
        if type(keys.get(key)) is not int or not 1 <= keys.number(key) <= most:
            raise _impossible(keys, key)
    blocks = keys.number("block_count")
    for key in PER_LAYER:
        value = keys.get(key)
        if isinstance(value, tuple) and len(value) != blocks:
            raise wrong_length(keys.name, f"{keys.architecture}.{key}", len(value), blocks)
    _check_heads(keys, blocks)
    _check_experts(keys)
    _check_rope(keys)


def _check_heads(keys: ArchitectureKeys, blocks: int) -> None:
    stated = keys.get("attention.head_count")
    if stated is None:
        return
    if stated == 0 and not keys.architecture.startswith(RECURRENT):
        raise _impossible(keys, "attention.head_count")
    sized = keys.number("attention.key_length")
    for index in range(blocks):
        heads = keys.number("attention.head_count", layer=index)
        kv_heads = keys.number("attention.head_count_kv", heads, index)
        if max(heads, kv_heads) > HEAD_BOUND:
            raise _impossible(keys, "attention.head_count")
        if heads and kv_heads and heads % kv_heads:
            raise contradictory(f"{keys.name} has {heads} attention heads, which {kv_heads} KV heads do not divide.")
        if heads and not sized and not isinstance(stated, tuple) and keys.number("embedding_length") % heads:
            width = keys.number("embedding_length")
            raise contradictory(f"{keys.name} has a width of {width} that {heads} attention heads do not divide.")


def _check_experts(keys: ArchitectureKeys) -> None:
    experts, used = keys.number("expert_count"), keys.number("expert_used_count")
    if experts > MOST_EXPERTS:
        raise _impossible(keys, "expert_count")
    if used > experts:
        raise contradictory(f"{keys.name} asks {used} experts for a token and has {experts}.")


def _check_rope(keys: ArchitectureKeys) -> None:
    scaling = keys.get("rope.scaling.type")
    if scaling is not None and (not isinstance(scaling, str) or scaling not in SCALINGS):
        raise _impossible(keys, "rope.scaling.type")
    for key in FACTORS:
        value = keys.get(key)
        if value is not None and (type(value) not in (int, float) or not 0 <= value < math.inf):
            raise _impossible(keys, key)
    if keys.number("rope.scaling.original_context_length") > NEEDED["context_length"]:
        raise _impossible(keys, "rope.scaling.original_context_length")


def _impossible(keys: ArchitectureKeys, key: str) -> UserError:
    return impossible(keys.name, f"{keys.architecture}.{key}", keys.get(key))
