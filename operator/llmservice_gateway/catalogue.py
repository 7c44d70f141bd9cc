"""Services as clients list them: OpenAI's and Xinference's entries in one, Ollama's, TGI's. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llmservice_gateway.routing import LATEST, About, Backend, Meant
from llmservice_runtime.contract.template_text import CALLS, THINKS

Json = dict[str, Any]
OLLAMA_VERSION = "0.12.11"
"""The release of Ollama whose routes and fields are these: clients look whether it is new enough."""
TGI_VERSION = "3.3.6"
"""Likewise."""
TYPES = {"Embedding": "embedding", "Rerank": "rerank"}
"""Xinference's types of models that are no LLM."""
ABILITIES = {
    "Chat": ["chat", "generate"],
    "Completion": ["generate"],
    "Embedding": ["embed"],
    "Rerank": ["rerank"],
}
KINDS = frozenset({"llm", "embedding", "rerank"})
"""Of models, in the paths of /v1/engines."""
CAPABILITIES = {"Chat": ["completion"], "Completion": ["completion"], "Embedding": ["embedding"], "Rerank": []}
UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))


def entry(name: str, meant: Meant) -> Json:
    """One of /v1/models: OpenAI's fields, vLLM's max_model_len and parent, Xinference's, and whether it answers now."""
    backend, about, serving = meant.backend, meant.backend.about, meant.backend.having(meant.adapter)
    found: Json = {
        "id": name,
        "object": "model",
        "created": backend.created,
        "owned_by": "llmservice",
        "ready": bool(serving),
        "model_uid": meant.uid,
        "model_name": meant.adapter or backend.name,
        "model_type": TYPES.get(about.task, "LLM"),
        "model_ability": _able(about, ABILITIES, "reasoning"),
        "replica": len(serving),
    }
    if meant.adapter:
        found["parent"] = backend.full_name
    if backend.context_tokens:
        found |= dict.fromkeys(("max_model_len", "context_length", "max_tokens"), backend.context_tokens)
    known: Json = {
        "model_engine": about.engine,
        "model_format": _format(about),
        "model_family": about.architecture,
        "quantization": about.quantization,
        "model_size_in_billions": round(about.parameters / 1e9, 3),
        "revision": about.revision,
    }
    return found | {name: value for name, value in known.items() if value}


def tagged(name: str, meant: Meant) -> Json:
    """One of Ollama's /api/tags. Names have a tag there; that of an adapter is the adapter's name."""
    shown = name if ":" in name else name + LATEST
    return {
        "name": shown,
        "model": shown,
        "modified_at": _time(meant.backend),
        "size": meant.backend.about.file_bytes,
        "digest": _digest(meant),
        "details": _details(meant),
        "capabilities": _able(meant.backend.about, CAPABILITIES, "thinking"),
    }


def running(name: str, meant: Meant) -> Json:
    """One of Ollama's /api/ps. When it leaves memory is a matter of demand, so nobody says."""
    found = tagged(name, meant)
    found.pop("modified_at")
    return {**found, "size_vram": 0, "context_length": meant.backend.context_tokens}


def shown(meant: Meant) -> Json:
    """Ollama's /api/show. Its template stays with the engine."""
    backend, about = meant.backend, meant.backend.about
    family = about.architecture or "unknown"
    known = {
        "general.architecture": about.architecture,
        "general.parameter_count": about.parameters,
        f"{family}.context_length": backend.context_tokens,
    }
    return {
        "modified_at": _time(backend),
        "modelfile": f"FROM {about.uri}" if about.uri else "",
        "details": _details(meant),
        "model_info": {name: value for name, value in known.items() if value},
        "capabilities": _able(about, CAPABILITIES, "thinking"),
    }


def info(backend: Backend) -> Json:
    """TGI's /info."""
    about, context = backend.about, backend.context_tokens
    return {
        "model_id": about.uri.rpartition("://")[2] or backend.full_name,
        "model_sha": about.revision or None,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": backend.max_held + backend.capacity.sequences * len(backend.replicas),
        "max_best_of": 1,
        "max_stop_sequences": 16,
        "max_input_tokens": max(0, context - 1),
        "max_total_tokens": context,
        "validation_workers": 1,
        "max_client_batch_size": 1,
        "router": "llmservice",
        "version": TGI_VERSION,
        "sha": None,
        "docker_label": None,
    }


def engines(backend: Backend) -> Json:
    """Xinference's /v1/engines of a model: the one that its plan chose."""
    about = backend.about
    if not about.engine:
        return {}
    row = {
        "model_name": backend.name,
        "model_format": _format(about),
        "model_size_in_billions": round(about.parameters / 1e9, 3),
        "quantizations": [about.quantization] if about.quantization else [],
    }
    return {about.engine: [row]}


def _details(meant: Meant) -> Json:
    about = meant.backend.about
    return {
        "parent_model": meant.backend.full_name if meant.adapter else "",
        "format": about.format.lower(),
        "family": about.architecture,
        "families": [about.architecture] if about.architecture else [],
        "parameter_size": _count(about.parameters),
        "quantization_level": about.quantization,
    }


def _able(about: About, words: Mapping[str, Sequence[str]], thinks: str) -> list[str]:
    """What a model does, in a protocol's words for its task and for thinking. Where nobody looked at its chat template
    it may take tools, which requests will tell, and does not say that it thinks."""
    able = list(words.get(about.task, words["Chat"]))
    if about.task not in ("", "Chat"):
        return able
    known = about.abilities
    able += ["tools"] * (known is None or CALLS in known) + ["vision"] * about.sees
    return able + [thinks] * (known is not None and THINKS in known)


def _format(about: About) -> str:
    """Xinference's word: of other weights than GGUF `pytorch`, or how they are quantized."""
    method = about.quantization.lower().partition("-")[0]
    if about.format == "GGUF":
        return "ggufv2"
    return method if method in ("gptq", "awq", "fp8") else "pytorch" if about.format else ""


def _count(parameters: int) -> str:
    """`7.6B`, as Ollama writes it."""
    size, unit = next((each for each in UNITS if parameters >= each[0]), (1, ""))
    return f"{parameters / size:.4g}{unit}" if parameters else ""


def _digest(meant: Meant) -> str:
    """Says when a model became another one, which is what clients ask it for."""
    about = meant.backend.about
    return hashlib.sha256(f"{meant.full_name} {about.uri} {about.revision}".encode()).hexdigest()


def _time(backend: Backend) -> str:
    return datetime.fromtimestamp(backend.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
