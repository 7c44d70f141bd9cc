"""A folder that is used in place (file://, a claim): engines are pointed at it, and choose among its files themselves.

vLLM loads every *.safetensors there, or those that the index names; Transformers loads model.safetensors, else what the
index names; both look for pickles where there are none. What `model.include` leaves out is not left out there.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.formats.refusals import is_weights
from llmservice_runtime.formats.weight_files import LOADED

WAY_OUT = "give each checkpoint a folder of its own (links to its files do), and name that in model.uri"


def loaded_too(
    kind: ModelFormat, weights: Sequence[str], paths: Sequence[str], index: str, indexed: bool
) -> UnsupportedModel | None:
    """The error of files that would be loaded with `weights` or instead of them; `indexed`: the index names those."""
    if indexed or kind is ModelFormat.MISTRAL:
        return None  # vLLM takes consolidated*.safetensors before all others
    if index in paths:
        return UnsupportedModel(
            f"{index} names other files than {weights[0]}, and engines read it in a folder that is used in place.",
            f"Remove {index}, or {WAY_OUT}.",
        )
    others = (path for path in paths if _checkpoint(path, paths) and path not in weights)
    if kind is ModelFormat.SAFETENSORS:
        others = (path for path in others if path.endswith(".safetensors"))
    if other := next(others, ""):
        return UnsupportedModel(
            f"{other} lies beside {weights[0]} in a folder that is used in place: engines load it too or instead.",
            f"{WAY_OUT[0].upper()}{WAY_OUT[1:]}.",
        )
    return None


def _checkpoint(path: str, paths: Sequence[str]) -> bool:
    """Whether a file at the top is loaded as a model or a part of one: an adapter's too, by vLLM."""
    named = path.endswith(LOADED) and not path.startswith("consolidated")
    return "/" not in path and named and is_weights(path, paths)
