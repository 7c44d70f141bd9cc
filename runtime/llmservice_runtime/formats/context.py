"""The longest context, from config.json and what lies beside it, as the engines derive it.

vLLM 0.32 refuses to start with more (`_get_and_verify_max_len`, `derive_max_model_len_and_key`); Transformers has the
same keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.ranges import contradictory, impossible
from llmservice_runtime.formats.rope import ropes

KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
"""Of those that are there the smallest counts; `model_max_length` overrules them all."""
OTHERS = ("n_ctx", "context_length", "max_context_length")
"""Asked where none of the keys is there; vLLM would assume 2,048 tokens, and takes what it is told."""
MISTRAL_TOKENS = 128_000
"""What vLLM assumes of a params.json that states none."""
LIMIT = 1 << 30
"""No model was trained for a billion positions."""
NOT_MULTIPLIED = frozenset({
    "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "telechat3-yarn",
})  # fmt: skip
"""Scalings of RoPE after which the stated positions are those that were reached; of all others the factor counts."""
ALIASES = frozenset({("su", "longrope"), ("mrope", "default")})
"""Old and new name of a scaling that may stand side by side."""


def context_tokens(config: Config) -> int:
    """Tokens; 0 = not told. Raises UnsupportedModel for values that can't be."""
    stated = _stated(config)
    factors = [factor for rope in ropes(config) if (factor := _factor(config, rope)) is not None]
    if not stated or not factors or "gemma3" in config.text("model_type") or "gemma3" in config.model_type:
        return stated
    tokens = stated * factors[-1]
    if not 1 <= tokens <= LIMIT:
        raise impossible(config.name, "the factor of its RoPE scaling", factors[-1])
    return int(tokens)


def tokenizer_tokens(tokenizer: Mapping[str, Any]) -> int:
    """`model_max_length` of tokenizer_config.json; 0 = not told, or told to be without end (10^30)."""
    value = tokenizer.get("model_max_length")
    tokens = 0 if value is None else _positive("tokenizer_config.json", "model_max_length", value, math.inf)
    return tokens if tokens <= LIMIT else 0


def shortened(tokens: int, tokenizer: int, sentences: Mapping[str, Any]) -> int:
    """`tokens` less what lies beside config.json: the `tokenizer`'s own limit (0 = none), and sentence-transformers'
    `max_seq_length`, which overrules all."""
    limit = sentences.get("max_seq_length")
    if limit is not None:
        return _positive("sentence_bert_config.json", "max_seq_length", limit)
    return min(tokens or LIMIT, tokenizer) if tokenizer else tokens


def _stated(config: Config) -> int:
    part = config.own if any(config.own.get(key) is not None for key in KEYS) else config
    found = {key: _positive(config.name, key, value) for key in KEYS if (value := part.get(key)) is not None}
    if longest := found.get("model_max_length"):
        return longest
    if found:
        return min(found.values())
    if config.name == "params.json":
        return MISTRAL_TOKENS
    return next((_positive(config.name, key, value) for key in OTHERS if (value := config.get(key)) is not None), 0)


def _factor(config: Config, rope: Mapping[str, Any]) -> float | None:
    """What the positions are multiplied by; None = nothing is said. Raises UnsupportedModel for what can't be."""
    new, old = rope.get("rope_type"), rope.get("type")
    for kind in (new, old):
        if kind is not None and not isinstance(kind, str):
            raise impossible(config.name, "the type of its RoPE scaling", kind)
    if new is not None and old is not None and new != old and (old, new) not in ALIASES:
        raise contradictory(
            f"{config.name} contradicts itself: by rope_type its RoPE is {repr(new)[:40]}, by type {repr(old)[:40]}."
        )
    if (original := rope.get("original_max_position_embeddings")) is not None:
        _positive(config.name, "original_max_position_embeddings", original)
    factor = rope.get("factor")
    if factor is None:
        return None
    if type(factor) not in (int, float) or not 0 < factor <= LIMIT:
        raise impossible(config.name, "the factor of its RoPE scaling", factor)
    return None if (new or old or "default") in NOT_MULTIPLIED else float(factor)


def _positive(file: str, key: str, value: Any, most: float = LIMIT) -> int:
    if type(value) not in (int, float) or not 1 <= value <= most or value == math.inf or int(value) != value:
        raise impossible(file, key, value)
    return int(value)
