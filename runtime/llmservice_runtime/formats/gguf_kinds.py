"""What a GGUF file holds, by its first keys: a model, or one of the things that lie beside models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmservice_runtime.formats.adapters import adapter_of, base_in_gguf
from llmservice_runtime.formats.errors import UnsupportedModel

_REMEDY = "Name the model's own GGUF in include."
_BESIDE = {"clip": "mmproj", "imatrix": "imatrix", "controlvector": "controlvector"}
"""Architectures of files that state no type."""


def kind_of(values: Mapping[str, Any]) -> str:
    """`model`, `adapter`, `mmproj`, `imatrix`, `controlvector`, or what else `general.type` says."""
    architecture = values.get("general.architecture")
    if isinstance(architecture, str) and architecture in _BESIDE:
        return _BESIDE[architecture]
    stated = values.get("general.type")
    if "adapter.type" in values:
        return "adapter"
    return stated if isinstance(stated, str) and stated else "model"


def no_model(values: Mapping[str, Any], path: str) -> UnsupportedModel | None:
    """Why a file is no model; None when it is one, or a later part of one."""
    match kind_of(values):
        case "model":
            return None
        case "adapter":
            method = values.get("adapter.type")
            known = {"lora": "LoRA", "alora": "aLoRA"}
            return adapter_of(known.get(str(method).lower(), "LoRA"), base_in_gguf(values), path)
        case "controlvector":
            return adapter_of("control vector", base_in_gguf(values), path)
        case "mmproj":
            return UnsupportedModel(f"{path} is the image projector of a model, not the model.", _REMEDY)
        case "imatrix":
            return UnsupportedModel(f"{path} is calibration data, not a model.", _REMEDY)
        case other:
            return UnsupportedModel(f"{path} is a GGUF of the type {other[:40]!r}, not a model.", _REMEDY)


def vocabulary_alone(path: str) -> UnsupportedModel:
    """The error of a GGUF without tensors."""
    return UnsupportedModel(f"{path} holds a vocabulary and no weights.", "Use the GGUF file that holds the model.")
