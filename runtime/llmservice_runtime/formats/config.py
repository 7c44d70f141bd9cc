"""config.json as a value: the language model's part of it, under whatever names a family uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.formats.ranges import damaged

NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal models keep the configuration of their language model."""

LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "model_dim")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "n_kv_heads")
HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim", "d_head")
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")

_INTEGER_LIMIT = 1 << 40
_LAYER_LIMIT = 4096


class Config(Mapping[str, Any]):
    """The language model's keys, over those of the whole configuration (`root`). `name` is the file, for errors."""

    def __init__(self, root: Mapping[str, Any], name: str = "config.json") -> None:
        merged = dict(root)
        part: Any = root
        for _ in range(3):
            part = next((part[key] for key in NESTED if isinstance(part.get(key), dict)), None)
            if part is None:
                break
            merged |= part
        self.root = root
        self.name = name
        self._values = merged

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def integer(self, *keys: str, default: int = 0) -> int:
        """The first of `keys` that is stated, as a non-negative integer. Raises UnsupportedModel on nonsense."""
        for key in keys:
            value = self._values.get(key)
            if value is None:
                continue
            if type(value) is float and value.is_integer():
                value = int(value)
            if type(value) is not int or not -1 <= value <= _INTEGER_LIMIT:
                raise damaged(f"{self.name} has the impossible value {str(value)[:60]} for {key}.")
            return max(0, value)
        return default

    def text(self, *keys: str) -> str:
        """The first of `keys` that holds a string; empty where none does."""
        return next((v for key in keys if isinstance(v := self._values.get(key), str)), "")

    def items_of(self, *keys: str) -> Sequence[Any]:
        """The first of `keys` that holds a list; empty where none does."""
        return next((v for key in keys if isinstance(v := self._values.get(key), list)), ())

    @property
    def layers(self) -> int:
        """Blocks of the language model."""
        count = self.integer(*LAYERS) or len(self.items_of("layers_block_type", "layer_types"))
        if count > _LAYER_LIMIT:
            raise damaged(f"{self.name} claims {count} layers.")
        return count

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.integer(*HIDDEN)

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.integer(*HEADS)

    @property
    def model_type(self) -> str:
        """The whole model's `model_type`."""
        value = self.root.get("model_type")
        return value if isinstance(value, str) else ""

    @property
    def architectures(self) -> tuple[str, ...]:
        """Class names that the checkpoint was saved from."""
        value = self.root.get("architectures") or self.get("architectures")
        return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()

    @property
    def dtype(self) -> str:
        """`dtype` (transformers 5) or `torch_dtype`, in safetensors' spelling; empty = not stated."""
        stated = self.text("dtype", "torch_dtype").removeprefix("torch.")
        return {"float32": "F32", "float16": "F16", "half": "F16", "bfloat16": "BF16", "float64": "F64"}.get(stated, "")

    @property
    def context_tokens(self) -> int:
        """Longest context: trained positions, times the factor of a RoPE scaling that extends them."""
        trained = self.integer(*CONTEXT)
        rope = self._values.get("rope_parameters") or self._values.get("rope_scaling")
        if not isinstance(rope, dict):
            return trained
        kind = str(rope.get("rope_type") or rope.get("type") or "default")
        factor = rope.get("factor")
        if (
            kind not in {"linear", "dynamic", "yarn"}
            or not isinstance(factor, int | float)
            or "gemma3" in self.model_type
        ):
            return trained
        original = rope.get("original_max_position_embeddings")
        if kind == "yarn" and type(original) is int:
            trained = original
        return int(trained * factor) if 1 <= factor <= 1024 and trained <= _INTEGER_LIMIT else trained


def quantization_of(root: Mapping[str, Any]) -> Mapping[str, Any]:
    """`quantization_config`, at the top, nested in the language model's part, or as `compression_config`."""
    places = [root, *(part for key in NESTED if isinstance(part := root.get(key), dict))]
    for key in ("quantization_config", "compression_config"):
        for place in places:
            if isinstance(value := place.get(key), dict) and value:
                return value
    return {}
