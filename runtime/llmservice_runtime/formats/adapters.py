"""Adapters: files of small weights that change a model, under whatever name; recognised by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.safetensors import SafetensorsHeader
from llmservice_runtime.formats.tensors import LAYER

SHOWN = 200
"""Characters of a base model's name that a message shows."""
README_BYTES = 64 << 10

_METHODS = {
    "DoRA": r"lora_magnitude_vector|dora_scale",
    "LoHa": r"hada_w\d",
    "LoKr": r"lokr_w\d|lokr_t\d",
    "IA3": r"ia3_l",
    "VeRA": r"p?vera_lambda_",
    "OFT": r"b?oft_",
    "prompt tuning": r"prompt_embeddings|prompt_encoder|adaption_prompt|adaption_gate",
    "control vector": r"direction\.\d+$",
    "LoRA": r"lora_(?:[abAB]|embedding_[AB]|down|up|mid|unet|te\d?)(?=[._]|$)|lora\.(?:down|up)\.|lora_linear_layer\.",
}
"""Parts of tensor names (PEFT's, diffusers', kohya's, llama.cpp's), what is told first."""
_BESIDE = re.compile(r"prompt|prefix|p[- ]tuning|control vector", re.IGNORECASE)
"""Methods that change no weights: there is nothing to merge."""
_ANY = re.compile(rf"(?:^|[._])(?:{'|'.join(_METHODS.values())})")
_WRAPPED = ("base_model.model.", "base_model.")
"""How PEFT's names begin, whatever the method."""
_BASE_IN_README = r"(?m)^base_model:[ \t]*(?:\n[ \t]*-[ \t]*|\[[ \t]*)?[\"']?([^\s\"'\[\],]+)"


def adapter_method(names: Iterable[str]) -> str:
    """`LoRA`, `IA3`, ... when these tensors are an adapter's; empty when a layer's own weights are among them.

    Models whose adapters are part of them (Phi-4-multimodal) have both.
    """
    found = ""
    for name in names:
        if _ANY.search(name):
            if found in ("", "LoRA"):
                found = next(m for m, pattern in _METHODS.items() if re.search(rf"(?:^|[._])(?:{pattern})", name))
        elif name.startswith(_WRAPPED) and ".base_layer." not in name:
            found = found or "adapter of PEFT"
        elif LAYER.search(name):
            return ""
    return found


def adapter_of(method: str, base: str, path: str = "") -> UnsupportedModel:
    """The error of an adapter that is taken for a model; `base` may be empty."""
    named = base[:SHOWN] or "its base model"
    kind = method if "adapter" in method or method == "control vector" else f"{method} adapter"
    article = "an" if kind[0] in "aeiouAEIO" else "a"
    remedy = f"Merge it into {named} (peft: merge_and_unload) and serve the result; an adapter alone is not served."
    if _BESIDE.search(method):
        remedy = f"Serve {named} itself: {article} {kind} can't be merged into weights, and is not served."
    return UnsupportedModel(f"{path or 'this'} is {article} {kind} of {named}, not a model.", remedy)


def method_of(config: Mapping[str, Any]) -> str:
    """What adapter_config.json calls the method, in words."""
    stated = config.get("peft_type")
    if not isinstance(stated, str) or not stated:
        return "LoRA"
    if config.get("use_dora") is True:
        return "DoRA"
    return {"LORA": "LoRA", "LOHA": "LoHa", "LOKR": "LoKr", "ADALORA": "AdaLoRA"}.get(
        stated.upper(), stated[:40].replace("_", " ")
    )


def base_in_config(config: Mapping[str, Any]) -> str:
    """The base model that adapter_config.json names."""
    base = config.get("base_model_name_or_path")
    return base if isinstance(base, str) else ""


def base_in_metadata(headers: Iterable[SafetensorsHeader]) -> str:
    """The base model that kohya's scripts write into the header."""
    keys = ("ss_sd_model_name", "ss_base_model_version")
    return next((name for header in headers for key in keys if (name := header.metadata.get(key))), "")


def base_in_gguf(values: Mapping[str, Any]) -> str:
    """The base model that a GGUF's keys name: owner/name of its address, else its name."""
    texts = {
        key: value
        for key in ("repo_url", "organization", "name", "url")
        if isinstance(value := values.get(f"general.base_model.0.{key}"), str)
    }
    address = texts.get("repo_url") or texts.get("url") or ""
    if "://" in address:
        return "/".join(address.rstrip("/").split("/")[-2:])
    return "/".join(part for part in (texts.get("organization"), texts.get("name")) if part and "://" not in part)


def base_in_readme(text: str) -> str:
    """The `base_model` of a model card's front matter."""
    _, _, rest = text.partition("---")
    found = re.search(_BASE_IN_README, rest.partition("\n---")[0]) if text.startswith("---") else None
    return found[1] if found else ""
