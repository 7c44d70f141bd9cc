"""Names of services for models that a person named: a DNS label, and the model's own name beside it."""

from __future__ import annotations

from llmservice_api.model_words import last_part, named_after
from llmservice_cli.wanted.words import Meant


def service_name(meant: Meant, quantization: str = "") -> str:
    """`bartowski/Qwen2.5-7B-Instruct-GGUF` in Q4_K_M -> `qwen2-5-7b-instruct-q4-k-m`; the same for the same model, and
    a label that begins with a letter in any case."""
    if meant.ollama is None:
        return named_after(last_part(meant.uri), quantization)
    name = meant.ollama.name
    return named_after(name.model if name.tag == "latest" else f"{name.model}-{name.tag}", quantization)
