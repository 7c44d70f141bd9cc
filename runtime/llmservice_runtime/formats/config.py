"""config.json as a value: the language model's part of it, under whatever names a family uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.formats.classes import NESTED, Classes, completed
from llmservice_runtime.formats.ranges import damaged, impossible

LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "model_dim")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "n_kv_heads")
HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim", "d_head")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")

_INTEGER_LIMIT = 1 << 26
_LAYER_LIMIT = 4096


class Config(Mapping[str, Any]):
    """The language model's keys, over those of the whole configuration (`root`). `name` is the file, for errors.

    What the configuration leaves out is its class's default, where `classes` know the class.
    """

    def __init__(self, root: Mapping[str, Any], name: str = "config.json", classes: Classes | None = None) -> None:
        whole = completed(root, classes or {})
        self.root = root
        self.name = name
        self.layer_unit = whole.layer_types
        """The kinds of layers that the class's default repeats; empty = not told."""
        self.own = whole.own
        """Its own part alone, where engines look for the context length."""
        self._values = whole.values

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
            if value is None or value == "auto":
                continue
            if type(value) is float and value.is_integer():
                value = int(value)
            if type(value) is not int or not -1 <= value <= _INTEGER_LIMIT:
                raise impossible(self.name, key, value)
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
    def experts(self) -> int:
        """Experts of a layer; of a list, one for each modality, the first."""
        counts = next((value for key in EXPERTS if (value := self.items_of(key))), ())
        return Config({"num_experts": counts[0]}, self.name).experts if counts else self.integer(*EXPERTS)

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


def quantization_of(root: Mapping[str, Any]) -> Mapping[str, Any]:
    """`quantization_config`, at the top, nested in the language model's part, or as `compression_config`."""
    places = [root, *(part for key in NESTED if isinstance(part := root.get(key), dict))]
    for key in ("quantization_config", "compression_config"):
        for place in places:
            if isinstance(value := place.get(key), dict) and value:
                return value
    return {}
