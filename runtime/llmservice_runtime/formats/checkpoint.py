"""Reading a checkpoint that is no GGUF: which files are its weights, their headers, configuration and side files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmservice_runtime.contract.template_text import of_templates
from llmservice_runtime.formats import qwen_reranker
from llmservice_runtime.formats.adapters import (
    README_BYTES,
    adapter_method,
    adapter_of,
    base_in_config,
    base_in_metadata,
    base_in_readme,
    method_of,
)
from llmservice_runtime.formats.classes import Classes
from llmservice_runtime.formats.config import Config, quantization_of
from llmservice_runtime.formats.detect import SIDE_FILES, Checkpoint
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.formats.in_place import loaded_too
from llmservice_runtime.formats.jsontext import parse_object
from llmservice_runtime.formats.listing import side_files
from llmservice_runtime.formats.parallel import in_parallel
from llmservice_runtime.formats.possible import check_generation
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.refusals import diffusion, foreign_weights, is_weights, no_weights
from llmservice_runtime.formats.safetensors import SafetensorsHeader, read_header
from llmservice_runtime.formats.sentences import Sentences, sentences
from llmservice_runtime.formats.shards import whole
from llmservice_runtime.formats.weight_files import PICKLED
from llmservice_runtime.sources.files import FileEntry, ModelFiles

JSON_LIMIT = 16 << 20
"""Bytes of a configuration or index file that are read; the largest index files have 10 MB."""
SENTENCES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Where sentence-transformers keeps the longest input, in vLLM's order."""
JINJA, IN_JSON = "chat_template.jinja", "chat_template.json"
"""Where a chat template has a file of its own."""
LAYER_FILES = ("model.safetensors", "pytorch_model.bin")
"""Of a layer behind the pooling."""
_INDEX = {
    ModelFormat.SAFETENSORS: "model.safetensors.index.json",
    ModelFormat.MISTRAL: "consolidated.safetensors.index.json",
    ModelFormat.PICKLE: "pytorch_model.bin.index.json",
}


def checkpoint(
    files: ModelFiles,
    entries: Sequence[FileEntry],
    chosen: Sequence[FileEntry],
    notes: Sequence[str],
    classes: Classes | None = None,
) -> Checkpoint:
    """Read what `checkpoint_facts` needs. Raises UnsupportedModel where there is no model that can be loaded."""
    reader = JsonFiles(files, entries)
    paths = tuple(entry.path for entry in entries)
    if error := diffusion(paths):
        raise error
    weights, kind = _weights(chosen, paths)
    adapter = reader.read("adapter_config.json")
    name = "params.json" if kind is ModelFormat.MISTRAL else "config.json"
    root = reader.read(name)
    alone = bool(weights) and all(entry.path.startswith("adapter_model.") for entry in weights)
    if (adapter and (alone or not (root and weights))) or (alone and not root):
        raise _adapter(files, weights, adapter, reader)
    if not weights:
        raise no_weights(entries, files.uri)
    if kind is ModelFormat.PICKLE and (error := foreign_weights(weights[0].path, files.read(weights[0].path, 0, 16))):
        raise error
    headers = _headers(files, weights) if kind is not ModelFormat.PICKLE else {}
    if method := adapter_method(tensor.name for header in headers.values() for tensor in header.tensors):
        base = base_in_config(adapter) or reader.base_in_readme() or base_in_metadata(headers.values())
        raise adapter_of(method, base, "" if adapter else weights[0].path)
    if not root:
        raise _not_configured(kind, name, paths)
    config = Config(root, name, classes)
    if kind is ModelFormat.MISTRAL and root.get("max_position_embeddings") is None:
        beside = Config(reader.read("config.json"), classes=classes).own.get("max_position_embeddings")
        config = Config(root | {"max_position_embeddings": beside}, name, classes)
    index = reader.read(_INDEX[kind]).get("weight_map")
    in_place = files.folder is not None
    weights = whole(weights, headers, index, _INDEX[kind], in_place)
    named = [entry.path for entry in weights]
    indexed = isinstance(index, dict) and {path for path in index.values() if isinstance(path, str)} == set(named)
    if in_place and (error := loaded_too(kind, named, paths, _INDEX[kind], indexed)):
        raise error
    first, *_ = (headers[entry.path] for entry in weights) if headers else (None,)
    tensors = [tensor for entry in weights if headers for tensor in headers[entry.path].tensors]
    said = [*notes, *_said(kind, paths)]
    tokenizer = reader.read("tokenizer_config.json")
    check_generation(reader.read("generation_config.json"))
    recipe = sentences(reader.raw)
    if not recipe.pooling and qwen_reranker.may_be_one(config.architectures):
        uris = (files.uri, str(root.get("_name_or_path", "")))
        if qwen_reranker.is_one(root, uris, reader.card()):
            recipe = Sentences("Rank")
            said.append(qwen_reranker.NOTE)
    needed = (*side_files(entries), *named, *_behind(recipe, paths))
    needed += (_INDEX[kind],) if indexed else ()
    sizes = {entry.path: entry.size for entry in entries}
    return Checkpoint(
        format=kind,
        config=config,
        tensors=tensors,
        metadata=first.metadata if first else {},
        side={} if quantization_of(root) else _side(reader),
        paths=paths,
        files=needed,
        file_bytes=sum(sizes[path] for path in needed),
        weight_file_bytes=sum(entry.size for entry in weights),
        chat_template=kind is ModelFormat.MISTRAL or _has_chat_template(tokenizer, paths),
        abilities=_abilities(reader, tokenizer),
        tokenizer=tokenizer,
        recipe=recipe,
        sentences=next((found for path in SENTENCES if (found := reader.read(path))), {}),
        name=files.uri,
        notes=tuple(said),
    )


def _behind(recipe: Sentences, paths: Sequence[str]) -> Iterator[str]:
    """The weights of layers behind the pooling. Raises UnsupportedModel where they are missing."""
    for layer in recipe.dense:
        found = [path for path in (f"{layer.folder}/{name}" for name in LAYER_FILES) if path in paths]
        if not found:
            raise damaged(f"{layer.folder} has no weights: neither {' nor '.join(LAYER_FILES)}.")
        yield found[0]


class JsonFiles:
    """JSON files of a repository, each read whole up to a bound; a file that is missing reads as nothing."""

    def __init__(self, files: ModelFiles, entries: Sequence[FileEntry]) -> None:
        self._files = files
        self._sizes = {entry.path: entry.size for entry in entries}

    def read(self, path: str) -> dict[str, Any]:
        """The object in `path`; empty where there is no such file. Raises UnsupportedModel when it is damaged."""
        size = self._sizes.get(path)
        if size is None:
            return {}
        if size > JSON_LIMIT:
            raise damaged(f"{path} has {size} bytes; more than {JSON_LIMIT} is refused.")
        raw = self._files.read(path, 0, size)
        if len(raw) < size:
            raise damaged(f"{path} is cut off: {len(raw)} of {size} bytes.")
        return parse_object(raw, path, unique=path == "config.json", constants=True)

    def raw(self, path: str) -> bytes | None:
        """All of a file; None where there is none. Raises UnsupportedModel when it is too large."""
        size = self._sizes.get(path)
        if size is not None and size > JSON_LIMIT:
            raise damaged(f"{path} has {size} bytes; more than {JSON_LIMIT} is refused.")
        return None if size is None else self._files.read(path, 0, size)

    def base_in_readme(self) -> str:
        """The base model that the model card names; empty without one."""
        return base_in_readme(self.card())

    def card(self) -> str:
        """The beginning of README.md; empty without one."""
        size = min(self._sizes.get("README.md", 0), README_BYTES)
        return self._files.read("README.md", 0, size).decode("utf-8", "replace") if size else ""


def _weights(chosen: Sequence[FileEntry], paths: Sequence[str]) -> tuple[list[FileEntry], ModelFormat]:
    """The weight files of the best format at hand: safetensors, Mistral's own, pickles."""
    top = [entry for entry in chosen if "/" not in entry.path and is_weights(entry.path, paths)]
    top = [entry for entry in top if not entry.path.startswith("adapter_model")] or top
    safetensors = [entry for entry in top if entry.path.endswith(".safetensors")]
    mistral = [entry for entry in safetensors if entry.path.startswith("consolidated")]
    if ordinary := [entry for entry in safetensors if entry not in mistral]:
        return ordinary, ModelFormat.SAFETENSORS
    return (mistral, ModelFormat.MISTRAL) if mistral else (top, ModelFormat.PICKLE)


def _adapter(
    files: ModelFiles, weights: Sequence[FileEntry], adapter: Mapping[str, Any], reader: JsonFiles
) -> UnsupportedModel:
    """The error of an adapter alone: what adapter_config.json calls it, else what its tensors say."""
    named = [entry for entry in weights if not adapter and entry.path.endswith(".safetensors")]
    try:
        headers = list(_headers(files, named).values())
    except UnsupportedModel:  # its name says enough
        headers = []
    method = adapter_method(tensor.name for header in headers for tensor in header.tensors) or method_of(adapter)
    return adapter_of(method, base_in_config(adapter) or reader.base_in_readme() or base_in_metadata(headers))


def _not_configured(kind: ModelFormat, name: str, paths: Sequence[str]) -> UnsupportedModel:
    if kind is ModelFormat.PICKLE and any(path.startswith("consolidated.") for path in paths):
        return UnsupportedModel(
            "this is a checkpoint in Meta's own format (consolidated.*.pth), which no engine here loads.",
            "Use the version for Transformers, with config.json and safetensors.",
        )
    return UnsupportedModel(f"there are {kind} weights but no {name}.", f"Put the model's {name} beside its weights.")


def _headers(files: ModelFiles, weights: Sequence[FileEntry]) -> dict[str, SafetensorsHeader]:
    def read(entry: FileEntry) -> SafetensorsHeader:
        return read_header(lambda start, length: files.read(entry.path, start, length), entry.size, entry.path)

    return dict(zip((entry.path for entry in weights), in_parallel(read, weights), strict=True))


def _side(reader: JsonFiles) -> Mapping[str, Any]:
    return next((found for path in SIDE_FILES if (found := reader.read(path))), {})


def _has_chat_template(tokenizer: Mapping[str, Any], paths: Sequence[str]) -> bool:
    files = any(path in {JINJA, IN_JSON} for path in paths)
    return files or bool(tokenizer.get("chat_template"))


def _abilities(reader: JsonFiles, tokenizer: Mapping[str, Any]) -> tuple[str, ...] | None:
    """By the template that an engine takes: a file of its own comes before what the tokenizer has. What is wrong with
    it is the engine's to say."""
    try:
        if text := reader.raw(JINJA):
            return of_templates(text.decode("utf-8", "replace"))
        return of_templates(reader.read(IN_JSON).get("chat_template") or tokenizer.get("chat_template"))
    except UnsupportedModel:
        return None


def _said(kind: ModelFormat, paths: Sequence[str]) -> list[str]:
    notes = []
    if kind is ModelFormat.PICKLE:
        notes.append("The weights are Python pickles: loading them can run code; prefer safetensors.")
    if "adapter_config.json" in paths:
        notes.append("An adapter lies beside the model and is not loaded.")
    beside = [path for path in paths if "/" not in path and path.endswith(PICKLED) and is_weights(path, paths)]
    if kind is not ModelFormat.PICKLE and beside:
        notes.append(f"Pickled weights ({beside[0]}) lie beside the safetensors and are not loaded.")
    if kind is ModelFormat.SAFETENSORS and "params.json" in paths:
        notes.append("Mistral's own format lies beside the safetensors and is not loaded.")
    return notes
