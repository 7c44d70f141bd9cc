"""Which GGUF files of a repository are models. Names are hints that save reading; headers decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.ggml_types import FILE_TYPES, GUESSED
from llmservice_runtime.formats.gguf import GgufHeader, read_header
from llmservice_runtime.formats.gguf_kinds import no_model, vocabulary_alone
from llmservice_runtime.formats.gguf_parts import impossible_part, part_of, renamed_parts
from llmservice_runtime.formats.listing import GgufVariant, gguf_variants, named_as_shard, named_beside
from llmservice_runtime.formats.parallel import in_parallel
from llmservice_runtime.formats.ranges import HeaderReader
from llmservice_runtime.sources.files import FileEntry, ModelFiles

PEEKED = 16
"""Where there are more GGUF files, only those are opened whose names speak of something else than a model."""
SUSPECTS = 64
SHAPE = ("block_count", "embedding_length", "expert_count")
"""Keys that versions of one model share."""


@dataclass(frozen=True, slots=True)
class GgufCandidates:
    """GGUF models, smallest first, and for each GGUF file that is none (or only a part of one) why."""

    models: tuple[GgufVariant, ...]
    others: Mapping[str, UnsupportedModel]


def gguf_candidates(files: ModelFiles, entries: Iterable[FileEntry]) -> GgufCandidates:
    """Look into the GGUF files among `entries`. What can't be read counts as what its name says."""
    sizes = {entry.path: entry.size for entry in entries}
    found = gguf_variants(FileEntry(path, size) for path, size in sizes.items())
    asked = found if len(found) <= PEEKED else [v for v in found if named_beside(v)][:SUSPECTS]
    asked = asked if len(found) > 1 else []  # the only one is read whole anyway
    headers = dict(zip(asked, in_parallel(lambda v: _peek(files, v.files[0], sizes), asked), strict=True))
    others = {v.files[0]: error for v, header in headers.items() if (error := _other(v, header))}
    parts = {v.files[0]: part for v, h in headers.items() if h and _strays(v) and (part := part_of(h.values))}
    if parts:  # the first part tells that it is one behind its tokenizer
        whole = [v.files[0] for v in asked if _strays(v) and v.files[0] not in parts and v.files[0] not in others]
        read = in_parallel(lambda path: _peek(files, path, sizes, brief=False), whole)
        parts |= {p: part for p, header in zip(whole, read, strict=True) if header and (part := part_of(header.values))}
        others |= dict.fromkeys(parts, renamed_parts(dict(sorted(parts.items(), key=lambda item: item[1]))))
    for variant, header in headers.items():
        if header and header.tensor_count == 0 and _strays(variant) and variant.files[0] not in others:
            others[variant.files[0]] = vocabulary_alone(variant.files[0])
    models = [_told(v, headers.get(v)) for v in found if v.files[0] not in others]
    return GgufCandidates(tuple(models), others)


def read_gguf(files: ModelFiles, path: str, size: int, brief: bool = False) -> GgufHeader:
    """The header of one file."""
    return read_header(HeaderReader(lambda start, length: files.read(path, start, length), size, path), brief)


def _peek(files: ModelFiles, path: str, sizes: Mapping[str, int], brief: bool = True) -> GgufHeader | None:
    try:
        return read_gguf(files, path, sizes[path], brief)
    except UnsupportedModel:
        return None


def _other(variant: GgufVariant, header: GgufHeader | None) -> UnsupportedModel | None:
    if header is not None:
        return no_model(header.values, variant.files[0]) or impossible_part(header.values, variant.files[0])
    if named_beside(variant):
        return UnsupportedModel(f"{variant.files[0]} can't be read.", "Name another file in include.")
    return None


def _strays(variant: GgufVariant) -> bool:
    return len(variant.files) == 1 and not named_as_shard(variant.files[0])


def _told(variant: GgufVariant, header: GgufHeader | None) -> GgufVariant:
    """With what the header adds to the name: the quantization, and which model it is a version of."""
    if header is None:
        return variant
    number = header.values.get("general.file_type")
    name = FILE_TYPES.get(number & ~GUESSED, "") if type(number) is int else ""
    architecture = header.values.get("general.architecture")
    shape = [header.values.get(f"{architecture}.{key}") for key in SHAPE]
    return dataclasses.replace(variant, quantization=variant.quantization or name, model=f"{architecture} {shape}")
