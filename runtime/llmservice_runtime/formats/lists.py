"""Values that a configuration lists layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmservice_runtime.formats.config import Config
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.ranges import damaged

_FURTHER = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "n_predict")
"""Layers behind the last that predict several tokens: lists may cover them, nothing is kept for them."""


def per_layer(config: Config, key: str, count: int) -> Sequence[Any]:
    """The list of `key`, cut to the `count` layers.

    Raises UnsupportedModel where it is of another length, as engines do.
    """
    values = config.items_of(key)
    further = max(config.integer(name) for name in _FURTHER)
    if not count <= len(values) <= count + further:
        raise wrong_length(config.name, key, len(values), count)
    return values[:count]


def wrong_length(name: str, key: str, found: int, count: int) -> UnsupportedModel:
    """The error of a list that does not fit the layers."""
    return damaged(f"{key} of {name} lists {found} layers, and the model has {count}.")
