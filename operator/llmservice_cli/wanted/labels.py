"""Names of services for models that a person named: a DNS label, and the model's own name beside it."""

from __future__ import annotations

import hashlib
import re

from llmservice_api.v1alpha1 import NAME_LIMIT
from llmservice_cli.wanted.words import Meant

_OTHER = re.compile(r"[^a-z0-9]+")
_ENDINGS = ("-gguf",)


def service_name(meant: Meant, quantization: str = "") -> str:
    """`bartowski/Qwen2.5-7B-Instruct-GGUF` in Q4_K_M -> `qwen2-5-7b-instruct-q4-k-m`; the same for the same model, and
    a label that begins with a letter in any case."""
    if meant.ollama is not None:
        name = meant.ollama.name
        text = name.model if name.tag == "latest" else f"{name.model}-{name.tag}"
    else:
        text = meant.uri.partition("?")[0].rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    label = _label(text)
    for ending in _ENDINGS:
        label = label.removesuffix(ending)
    tail = _label(quantization)
    if tail and not label.endswith(tail):
        label = f"{label[: NAME_LIMIT - len(tail) - 1].rstrip('-')}-{tail}"
    if not label[:1].isalpha():
        label = f"m-{label}".rstrip("-")
    return label[:NAME_LIMIT].rstrip("-")


def told_apart(name: str, uri: str, pattern: str) -> str:
    """The same for another model whose name is taken."""
    digest = hashlib.sha256(f"{uri}|{pattern}".encode(errors="surrogateescape")).hexdigest()[:4]
    return f"{name[: NAME_LIMIT - len(digest) - 1].rstrip('-')}-{digest}"


def _label(text: str) -> str:
    return _OTHER.sub("-", text.lower()).strip("-")
