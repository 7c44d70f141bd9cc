"""From GGUF headers to model facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmservice_runtime.contract.template_text import of_templates
from llmservice_runtime.formats import gguf_possible
from llmservice_runtime.formats.adapters import adapter_method, adapter_of, base_in_gguf
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.formats.ggml_types import FILE_TYPES, GUESSED, PLAIN
from llmservice_runtime.formats.gguf import GgufHeader, Skipped
from llmservice_runtime.formats.gguf_kinds import no_model, vocabulary_alone
from llmservice_runtime.formats.gguf_layers import ArchitectureKeys, gguf_layer_groups
from llmservice_runtime.formats.gguf_parts import wrong_parts
from llmservice_runtime.formats.listing import GgufVariant
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.reads import reads
from llmservice_runtime.formats.tasks import gguf_task
from llmservice_runtime.formats.tensors import (
    Tensor,
    bytes_by_dtype,
    layer_bytes,
    parameter_count,
    plain_dtype,
    total_bytes,
)

TEMPLATES = ("tokenizer.chat_template", "tokenizer.chat_template.tool_use")
"""Chat templates that are used."""
POOLINGS = {1: "Mean", 2: "CLS", 3: "Last", 4: "Rank"}
"""llama_pooling_type."""


def gguf_facts(headers: Sequence[GgufHeader], variant: GgufVariant, notes: Sequence[str] = ()) -> ModelFacts:
    """Facts of one GGUF model; `headers` of all its shards in order. Raises UnsupportedModel for what is no model."""
    values = headers[0].values
    if error := no_model(values, variant.files[0]) or wrong_parts(headers, variant):
        raise error
    tensors = [tensor for header in headers for tensor in header.tensors]
    if method := adapter_method(tensor.name for tensor in tensors):
        raise adapter_of(method, base_in_gguf(values), variant.files[0])
    if not tensors:
        raise vocabulary_alone(variant.files[0])
    architecture = _architecture(values, variant.files[0])
    keys = ArchitectureKeys(values, architecture, variant.files[0])
    gguf_possible.check(keys)
    template = any(key.startswith("tokenizer.chat_template") for key in values)
    quantization, said = gguf_quantization(values.get("general.file_type"), tensors)
    layers = gguf_layer_groups(keys)
    return ModelFacts(
        format=ModelFormat.GGUF,
        architecture=architecture,
        model_type=architecture,
        task=_task(keys, values, template),
        quantization=quantization,
        dtype=plain_dtype(tensors, "F32"),
        parameters=parameter_count(tensors),
        context_tokens=keys.number("context_length"),
        layers=layers,
        hidden_size=keys.number("embedding_length"),
        attention_heads=keys.number("attention.head_count"),
        vocab_size=_vocabulary(keys, values),
        weight_bytes=total_bytes(tensors),
        layer_weight_bytes=layer_bytes(tensors, sum(group.count for group in layers)),
        files=variant.files,
        file_bytes=variant.size,
        has_chat_template=template,
        abilities=of_templates({key: text for key, text in values.items() if key in TEMPLATES}),
        has_tokenizer="tokenizer.ggml.tokens" in values,
        mixture_experts=keys.number("expert_count"),
        pooling=POOLINGS.get(_pooling(keys), ""),
        typed_pairs=_typed_pairs(values),
        asked=isinstance(values.get("tokenizer.chat_template.rerank"), str),
        reads=reads(tensors, layers, keys.number("expert_count"), _chosen(keys, values)),
        notes=(*notes, *said),
    )


def gguf_quantization(file_type: Any, tensors: Sequence[Tensor]) -> tuple[Quantization | None, list[str]]:
    """Quantization by `general.file_type`; by the type of most tensor bytes where it is missing or wrong."""
    histogram = bytes_by_dtype(tensors)
    dominant = max(histogram, key=lambda dtype: histogram[dtype])
    notes: list[str] = []
    name = ""
    if type(file_type) is int:
        name = FILE_TYPES.get(file_type & ~GUESSED, "")
        if file_type & GUESSED:
            notes.append("general.file_type is marked as guessed.")
    if not name:
        name = dominant
        notes.append(f"general.file_type is missing or unknown; {name} is the type of most tensor bytes.")
    elif (name in PLAIN) != (dominant in PLAIN) and name != "MXFP4_MOE":
        notes.append(f"general.file_type says {name}, but most tensor bytes are {dominant}.")
        name = dominant
    if name in PLAIN:
        return None, notes
    bits = round(total_bytes(tensors) * 8 / max(1, parameter_count(tensors)), 3)
    return Quantization("gguf", name, bits), notes


def _architecture(values: dict[str, Any], path: str) -> str:
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not 0 < len(architecture) <= 64:
        raise damaged(f"{path} states no general.architecture.", "Convert the model again with a newer converter.")
    return architecture


def _task(keys: ArchitectureKeys, values: dict[str, Any], template: bool) -> Task:
    causal = values.get(f"{keys.architecture}.attention.causal", True) is not False
    return gguf_task(keys.architecture, _pooling(keys), causal, template)


def _pooling(keys: ArchitectureKeys) -> int:
    """llama.cpp's number; -1 = not stated."""
    return keys.number("pooling_type") if keys.get("pooling_type") is not None else -1


def _typed_pairs(values: dict[str, Any]) -> bool:
    """WordPiece tokenizers mark the second text, where the model has a type for it."""
    types = values.get("tokenizer.ggml.token_type_count", 0)
    return values.get("tokenizer.ggml.model") == "bert" and type(types) is int and types > 1


def _chosen(keys: ArchitectureKeys, values: dict[str, Any]) -> int:
    """Experts that a token passes in a layer; 0 = not told, or not the same in all."""
    count = values.get(f"{keys.architecture}.expert_used_count")
    return count if type(count) is int else 0


def _vocabulary(keys: ArchitectureKeys, values: dict[str, Any]) -> int:
    tokens = values.get("tokenizer.ggml.tokens")
    return tokens.length if isinstance(tokens, Skipped) else keys.number("vocab_size")
