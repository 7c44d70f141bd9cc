"""From config.json, side files and safetensors headers to model facts: the order of evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmservice_runtime.formats import fused, possible, rope
from llmservice_runtime.formats.config import Config, quantization_of
from llmservice_runtime.formats.context import context_tokens, shortened, tokenizer_tokens
from llmservice_runtime.formats.evidence import (
    HINTS,
    contradiction,
    quantization_from_tensors,
    refuse_foreign,
    telling_names,
)
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat, Quantization, Task, Vision
from llmservice_runtime.formats.layers import layer_groups
from llmservice_runtime.formats.quantization import quantization, unsupported_mlx
from llmservice_runtime.formats.reads import chosen_experts, reads
from llmservice_runtime.formats.refusals import in_pieces
from llmservice_runtime.formats.sentences import Sentences, labels
from llmservice_runtime.formats.tasks import auto_classes, task_of
from llmservice_runtime.formats.tensors import Tensor, layer_bytes, parameter_count, plain_dtype, total_bytes
from llmservice_runtime.formats.widths import widths

SIDE_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quantization_config.json")
"""Where older tools put the quantization, in the order they are asked (vLLM's `get_config_filenames`)."""
TOKENIZERS = frozenset({
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json", "tiktoken.model",
    "sentencepiece.bpe.model", "tokenizer.model.v3", "rwkv_vocab_v20230424.txt", "qwen.tiktoken",
})  # fmt: skip
BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "data2vec-text"})
"""Their first position comes behind that of the padding token: so many fewer are left."""


MOST_NAMES = 8
"""Of `architectures`; one is usual."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was read of a checkpoint that is no GGUF. `tensors` is empty where no header tells of them."""

    format: ModelFormat
    config: Config
    tensors: Sequence[Tensor]
    metadata: Mapping[str, str]
    side: Mapping[str, Any]
    """Content of the first of SIDE_FILES that exists; asked only when the configuration is silent."""
    paths: Sequence[str]
    """All files of the repository."""
    files: tuple[str, ...]
    file_bytes: int
    weight_file_bytes: int
    chat_template: bool
    abilities: tuple[str, ...] | None = None
    """What the template's text says."""
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    """tokenizer_config.json."""
    recipe: Sentences = field(default_factory=Sentences)
    """What modules.json and its parts say."""
    sentences: Mapping[str, Any] = field(default_factory=dict)
    """sentence_bert_config.json, or under its other names."""
    name: str = ""
    """The repository's name, for hints."""
    notes: tuple[str, ...] = field(default=())


def checkpoint_facts(seen: Checkpoint) -> ModelFacts:
    """Facts of a checkpoint. Raises UnsupportedModel for formats that no engine loads."""
    config = seen.config
    if error := in_pieces(config.root):
        raise error
    possible.check(config)
    found, notes = find_quantization(seen)
    layers = layer_groups(config)
    task = task_of(
        config.architectures, seen.paths, seen.chat_template, auto_classes(config.root), seen.recipe.pooling == "Rank"
    )
    dtype = plain_dtype(seen.tensors, config.dtype) or "F16"
    weight_bytes = total_bytes(seen.tensors) or seen.weight_file_bytes
    parameters = parameter_count(seen.tensors, found.bits if found else None)
    if not seen.tensors:
        width = found.bits / 8 if found else {"F32": 4, "F64": 8}.get(dtype, 2)
        parameters = int(weight_bytes / max(width, 0.125))
        notes.append("No header lists the tensors: sizes follow from the files, the parameter count is estimated.")
    return ModelFacts(
        format=seen.format,
        architecture=next(iter(config.architectures), ""),
        other_architectures=config.architectures[1:MOST_NAMES],
        model_type=config.model_type,
        task=task,
        quantization=found,
        dtype=dtype,
        parameters=parameters,
        context_tokens=_context(seen, task),
        layers=layers,
        hidden_size=config.hidden,
        attention_heads=config.heads,
        vocab_size=config.integer("vocab_size", "padded_vocab_size"),
        weight_bytes=weight_bytes,
        layer_weight_bytes=layer_bytes(seen.tensors, sum(group.count for group in layers)),
        files=seen.files,
        file_bytes=seen.file_bytes,
        has_chat_template=seen.chat_template,
        abilities=seen.abilities,
        has_tokenizer=has_tokenizer(seen.paths),
        mixture_experts=config.experts,
        remote_code=isinstance(config.root.get("auto_map"), dict),
        encoder=_encoder(config),
        decoder=config.get("is_decoder") is True,
        widths=widths(config),
        rope_types=rope.types(config),
        vision=_vision(config),
        reads=None if _encoder(config) else reads(seen.tensors, layers, config.experts, chosen_experts(config)),
        **_pooled(seen, task),
        notes=(*seen.notes, *notes),
    )


def _vision(config: Config) -> Vision | None:
    """What sees pictures, where config.json has such a part."""
    tower = config.root.get("vision_config")
    if not isinstance(tower, dict):
        return None

    def number(*keys: str) -> int:
        found = (tower.get(key) for key in keys)
        return next((value for value in found if type(value) is int and 0 < value < 1 << 32), 0)

    kind = tower.get("model_type")
    return Vision(
        kind=kind if isinstance(kind, str) else "",
        image_size=number("image_size"),
        patch_size=number("patch_size"),
        merge=number("spatial_merge_size"),
        hidden_size=number("hidden_size", "embed_dim"),
        feed_forward=number("intermediate_size"),
        heads=number("num_attention_heads", "num_heads"),
    )


def _encoder(config: Config) -> bool:
    """BartForCausalLM is the decoder alone."""
    alone = any(name.endswith("ForCausalLM") for name in config.architectures)
    return config.get("is_encoder_decoder") is True and not alone


def _pooled(seen: Checkpoint, task: Task) -> dict[str, Any]:
    """What facts say of vectors and scores."""
    if task is Task.EMBEDDING:
        recipe = seen.recipe
        return {"pooling": recipe.pooling, "unpooled": recipe.unable, "projected": bool(recipe.dense)}
    if task is not Task.RERANK:
        return {}
    if seen.recipe.pooling == "Rank":
        templated = seen.chat_template or seen.recipe.answers is None
        unable = "" if templated else "it is asked by a chat template, and its files have none."
        return {"pooling": "Rank", "unpooled": seen.recipe.unable or unable, "asked": True}
    classes = labels(seen.config.root)
    unable = f"it sorts texts into {classes} classes; a reranker has one score." if classes != 1 else ""
    return {"pooling": "Rank", "unpooled": unable, "typed_pairs": seen.config.integer("type_vocab_size") > 1}


def _context(seen: Checkpoint, task: Task) -> int:
    """The context length; of models that embed with learned positions also by the tokenizer's own limit."""
    limited = tokenizer_tokens(seen.tokenizer)
    pools = task in (Task.EMBEDDING, Task.RERANK)
    learned = pools and seen.config.root.get("position_embedding_type") == "absolute"
    tokens = context_tokens(seen.config)
    if pools and seen.config.model_type in BEHIND_PADDING:
        tokens = max(0, tokens - seen.config.integer("pad_token_id", default=1) - 1)
    return shortened(tokens, limited if learned else 0, seen.sentences)


def find_quantization(seen: Checkpoint) -> tuple[Quantization | None, list[str]]:
    """The order of evidence: configuration, side files, tensors; what contradicts is noted."""
    names = telling_names(seen.tensors)
    refuse_foreign(names, seen.metadata)
    root = seen.config.root
    stated = quantization(quantization_of(root))
    if stated is None and _is_mlx(root.get("quantization")):
        raise unsupported_mlx()
    notes: list[str] = []
    if stated is None and (stated := quantization(seen.side)):
        notes.append(f"{stated.name} is stated in a file beside config.json only.")
    if stated is None and seen.format is ModelFormat.MISTRAL:
        stated = _mistral_quantization(root)
    observed = quantization_from_tensors(seen.tensors, names)
    if stated is None:
        if observed:
            notes.append(f"{observed.name} follows from the tensors; config.json says nothing of it.")
        elif hint := next((word for text, word in HINTS.items() if text in seen.name.lower()), None):
            notes.append(f"The name says {hint}, but neither the configuration nor the tensors do.")
        if seen.metadata.get("format") == "mlx":
            notes.append("The weights were saved by MLX without quantization.")
        return observed, notes
    said = quantization_of(root) or seen.side
    if place := fused.divided(said, (tensor.name for tensor in seen.tensors)):
        stated = replace(stated, stated=(*stated.stated, f"divided={place}"))
    if note := contradiction(stated, seen.tensors, observed):
        notes.append(note)
    if stated.kv_cache:
        notes.append(f"The checkpoint states a KV cache in {stated.kv_cache}: engines that can keep it so.")
    return stated, notes


def has_tokenizer(paths: Sequence[str]) -> bool:
    """Whether the repository brings a tokenizer."""
    return any(path in TOKENIZERS or path.endswith(".tiktoken") for path in paths)


def _is_mlx(raw: Any) -> bool:
    """MLX's top-level `quantization: {group_size, bits}` has no quant_method."""
    return isinstance(raw, dict) and "quant_method" not in raw and "bits" in raw


def _mistral_quantization(root: Mapping[str, Any]) -> Quantization | None:
    """params.json's `quantization: {qformat_weight: fp8_e4m3, qscheme_act: TENSOR}`."""
    raw = root.get("quantization")
    kind = raw.get("qformat_weight") if isinstance(raw, dict) else None
    if isinstance(kind, str) and kind.startswith("fp8"):
        return Quantization("fp8", "FP8", 8, scheme="per tensor, static")
    return quantization(raw) if isinstance(raw, dict) else None
