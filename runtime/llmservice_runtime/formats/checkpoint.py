"""Reading a checkpoint that is no GGUF: which files are its weights, their headers, configuration and side files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.formats.classes import Classes
from llmservice_runtime.formats.config import Config, quantization_of
from llmservice_runtime.formats.detect import SIDE_FILES, Checkpoint
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.formats.jsontext import parse_object
from llmservice_runtime.formats.listing import side_files
from llmservice_runtime.formats.parallel import in_parallel
from llmservice_runtime.formats.possible import check_generation
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.refusals import foreign_format, foreign_weights
from llmservice_runtime.formats.safetensors import SafetensorsHeader, read_header
from llmservice_runtime.formats.tensors import Tensor
from llmservice_runtime.sources.files import FileEntry, ModelFiles

JSON_LIMIT = 16 << 20
"""Bytes of a configuration or index file that are read; the largest index files have 10 MB."""
TENSOR_LIMIT = 500_000
SENTENCES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Where sentence-transformers keeps the longest input, in vLLM's order."""
_INDEX = {
    ModelFormat.SAFETENSORS: "model.safetensors.index.json",
    ModelFormat.MISTRAL: "consolidated.safetensors.index.json",
    ModelFormat.PICKLE: "pytorch_model.bin.index.json",
}
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth")


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
    weights, kind = _weights(chosen, reader)
    if error := foreign_format(paths, weights, reader.read("adapter_config.json")):
        raise error
    if kind is ModelFormat.PICKLE and (error := foreign_weights(weights[0].path, files.read(weights[0].path, 0, 16))):
        raise error
    name = "params.json" if kind is ModelFormat.MISTRAL else "config.json"
    root = reader.read(name)
    if not root:
        raise UnsupportedModel(
            f"there are {kind} weights but no {name}.", f"Put the model's {name} beside its weights."
        )
    config = Config(root, name, classes)
    if kind is ModelFormat.MISTRAL and root.get("max_position_embeddings") is None:
        beside = Config(reader.read("config.json"), classes=classes).own.get("max_position_embeddings")
        config = Config(root | {"max_position_embeddings": beside}, name, classes)
    headers = _headers(files, weights) if kind is not ModelFormat.PICKLE else []
    said = [*notes, *_said(kind, paths)]
    tokenizer = reader.read("tokenizer_config.json")
    check_generation(reader.read("generation_config.json"))
    needed = (*side_files(entries), *(e.path for e in weights))
    needed += tuple(path for path in (_INDEX[kind],) if path in paths)
    sizes = {entry.path: entry.size for entry in entries}
    return Checkpoint(
        format=kind,
        config=config,
        tensors=_unique([tensor for header in headers for tensor in header.tensors]),
        metadata=headers[0].metadata if headers else {},
        side={} if quantization_of(root) else _side(reader),
        paths=paths,
        files=needed,
        file_bytes=sum(sizes[path] for path in needed),
        weight_file_bytes=sum(entry.size for entry in weights),
        chat_template=kind is ModelFormat.MISTRAL or _has_chat_template(tokenizer, paths),
        tokenizer=tokenizer,
        sentences=next((found for path in SENTENCES if (found := reader.read(path))), {}),
        name=files.uri,
        notes=tuple(said),
    )


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


def _weights(chosen: Sequence[FileEntry], reader: JsonFiles) -> tuple[list[FileEntry], ModelFormat]:
    """The weight files of the best format at hand: safetensors, Mistral's own, pickles."""
    top = [e for e in chosen if "/" not in e.path and not e.path.startswith("adapter_model")]
    safetensors = [e for e in top if e.path.endswith(".safetensors")]
    mistral = [e for e in safetensors if e.path.startswith("consolidated")]
    ordinary = [e for e in safetensors if e not in mistral]
    if ordinary:
        return _indexed(ordinary, reader, _INDEX[ModelFormat.SAFETENSORS]), ModelFormat.SAFETENSORS
    if mistral:
        return _indexed(mistral, reader, _INDEX[ModelFormat.MISTRAL]), ModelFormat.MISTRAL
    pickles = [e for e in top if e.path.endswith((".bin", ".pt", ".pth")) and e.path not in _NO_WEIGHTS]
    return _indexed(pickles, reader, _INDEX[ModelFormat.PICKLE]), ModelFormat.PICKLE


def _indexed(found: list[FileEntry], reader: JsonFiles, index: str) -> list[FileEntry]:
    """The files that the index names, all of them present; without an index every file found."""
    mapping = reader.read(index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        return found
    named = {path for path in mapping.values() if isinstance(path, str)}
    present = {entry.path: entry for entry in found}
    if len(found) == 1 and found[0].path not in named:
        return found
    if lacking := sorted(named - present.keys()):
        raise damaged(
            f"{index} names {len(named)} files, {lacking[0][:120]} is missing.",
            "Download every shard, and let `include` match all of them.",
        )
    return [present[path] for path in sorted(named)]


def _headers(files: ModelFiles, weights: Sequence[FileEntry]) -> list[SafetensorsHeader]:
    def read(entry: FileEntry) -> SafetensorsHeader:
        return read_header(lambda start, length: files.read(entry.path, start, length), entry.size, entry.path)

    return in_parallel(read, weights)


def _unique(tensors: list[Tensor]) -> list[Tensor]:
    if len(tensors) > TENSOR_LIMIT or len({tensor.name for tensor in tensors}) != len(tensors):
        raise damaged(
            "the shards hold too many tensors, or the same tensor twice.", "Choose one checkpoint by include."
        )
    return tensors


def _side(reader: JsonFiles) -> Mapping[str, Any]:
    return next((found for path in SIDE_FILES if (found := reader.read(path))), {})


def _has_chat_template(tokenizer: Mapping[str, Any], paths: Sequence[str]) -> bool:
    files = any(path in {"chat_template.jinja", "chat_template.json"} for path in paths)
    return files or bool(tokenizer.get("chat_template"))


def _said(kind: ModelFormat, paths: Sequence[str]) -> list[str]:
    notes = []
    if kind is ModelFormat.PICKLE:
        notes.append("The weights are Python pickles: loading them can run code; prefer safetensors.")
    if "adapter_config.json" in paths:
        notes.append("A LoRA adapter lies beside the model and is not loaded.")
    if kind is ModelFormat.SAFETENSORS and "params.json" in paths:
        notes.append("Mistral's own format lies beside the safetensors and is not loaded.")
    return notes
