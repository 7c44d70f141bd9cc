"""Which files of a repository belong together: shards, GGUF variants, and everything beside the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.sources.files import FileEntry

SHARD_LIMIT = 2048
LISTED = 20
"""Variants that an error names."""

_GGUF_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)
_BESIDE = re.compile(
    r"(?:^|[-_./])(?:mmproj|imatrix|ggml-vocab)|\.imatrix|(?:^|[-_.])(?:lora|adapter|vocab|control-?vector)(?=[-_.])",
    re.IGNORECASE,
)
_QUANTIZATION = re.compile(
    r"(?:^|[-_.])((?:UD-)?(?:I?Q\d(?:_[0-9KMSXL]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32|FP32))(?=[-_.]|$)",
    re.IGNORECASE,
)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ggml", ".onnx", ".h5", ".msgpack", ".ckpt", ".tflite",
            ".npz", ".onnx_data", ".mlmodel", ".engine", ".nemo", ".tar", ".zip", ".ot")  # fmt: skip
_NOT_NEEDED = (".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".pdf", ".gitattributes", ".gitignore", ".mp4",
               ".wav", ".csv", ".parquet", ".ipynb", ".html", ".lock")  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufVariant:
    """One GGUF model of a repository: its files (first shard first), the quantization that its name or header tells
    (may be empty), its bytes, and a word that versions of one model share (empty where the header was not read)."""

    files: tuple[str, ...]
    quantization: str
    size: int
    model: str = ""


def matches(path: str, include: Sequence[str]) -> bool:
    """Whether a pattern matches the path or its last part, without regard to case; no patterns match everything.

    A pattern that begins with `./` is one of the whole path.
    """
    if not include:
        return True
    (whole, last), lower = _compiled(tuple(include)), path.lower()
    return bool(whole.fullmatch(lower) or last.fullmatch(lower, lower.rfind("/") + 1))


@lru_cache(maxsize=8)
def _compiled(include: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """One expression for whole paths, one for their last parts (`(?!)` matches nothing)."""
    whole = [translate(glob.lower().removeprefix("./")) for glob in include]
    last = [translate(glob.lower()) for glob in include if not glob.startswith("./")]
    return re.compile("|".join(whole)), re.compile("|".join(last) or "(?!)")


def gguf_variants(entries: Iterable[FileEntry]) -> list[GgufVariant]:
    """GGUF files grouped by the names of their shards, smallest first; whatever they hold."""
    groups: dict[str, list[FileEntry]] = {}
    for entry in entries:
        if not entry.path.lower().endswith(".gguf"):
            continue
        shard = _GGUF_SHARD.match(entry.path)
        key = f"{shard['stem']} of {shard['count']}" if shard else entry.path
        groups.setdefault(key, []).append(entry)
    found = [_variant(group) for group in groups.values()]
    return sorted(found, key=lambda variant: (variant.size, variant.files))


def named_beside(variant: GgufVariant) -> bool:
    """Whether the name is one of those that lie beside models (projectors, LoRAs, imatrix); the header decides."""
    return bool(_BESIDE.search(variant.files[0].rsplit("/", 1)[-1]))


def named_as_shard(path: str) -> bool:
    """Whether llama.cpp finds the other parts of a split GGUF by this name."""
    shard = _GGUF_SHARD.match(path)
    return bool(shard and path.endswith(f"-of-{shard['count']}.gguf"))  # it looks for lower case


def missing_shards(variant: GgufVariant) -> UnsupportedModel | None:
    """The error of a split GGUF that is not complete; None when it is."""
    shard = _GGUF_SHARD.match(variant.files[0])
    if not shard:
        return None
    count = int(shard["count"])
    present = {int(match["number"]) for path in variant.files if (match := _GGUF_SHARD.match(path))}
    lacking = [number for number in range(1, min(count, SHARD_LIMIT) + 1) if number not in present]
    if not lacking and count <= SHARD_LIMIT:
        return None
    first = f"{shard['stem']}-{lacking[0] if lacking else count:05d}-of-{shard['count']}.gguf"
    return damaged(
        f"{first} is missing: the model is split into {count} files, {len(variant.files)} are here.",
        "Download every shard, and let `include` match all of them.",
    )


def _variant(group: list[FileEntry]) -> GgufVariant:
    files = tuple(sorted(entry.path for entry in group))
    shard = _GGUF_SHARD.match(files[0])
    return GgufVariant(
        files, quantization_in_name(shard["stem"] if shard else files[0][:-5]), sum(e.size for e in group)
    )


def quantization_in_name(stem: str) -> str:
    """`Qwen2.5-7B-Instruct-Q4_K_M` -> `Q4_K_M`; empty where a name tells nothing."""
    found = _QUANTIZATION.findall(stem.rsplit("/", 1)[-1]) or _QUANTIZATION.findall(stem.replace("/", "."))
    return found[-1].upper().replace("FP16", "F16").replace("FP32", "F32") if found else ""


def ambiguous(variants: Sequence[GgufVariant]) -> UnsupportedModel:
    """The error of a repository with several GGUF models and no choice among them."""
    rows = [
        f"{v.quantization or '?'} ({size_text(v.size)}, {v.files[0]}{', ...' if len(v.files) > 1 else ''})"
        for v in variants[:LISTED]
    ]
    rows += [f"and {len(variants) - LISTED} more"] if len(variants) > LISTED else []
    example = next((v for v in variants if v.quantization == "Q4_K_M"), variants[0])
    return UnsupportedModel(
        f"there are {len(variants)} GGUF models to choose from: {'; '.join(rows)}.",
        f"Name one in spec.model.include, for example include: {json.dumps([choosing(example, variants)])}.",
    )


def choosing(wanted: GgufVariant, variants: Sequence[GgufVariant]) -> str:
    """A pattern that matches all files of one variant and of no other, as short as can be."""
    shard = _GGUF_SHARD.match(wanted.files[0])
    path = f"{literal(shard['stem'])}-*-of-{shard['count']}.gguf" if shard else literal(wanted.files[0])
    name = path.removeprefix("./").rsplit("/", 1)[-1]
    others = [path for variant in variants if variant is not wanted for path in variant.files]
    for pattern in (f"*{wanted.quantization.lower()}*.gguf", name):
        mine = all(matches(file, [pattern]) for file in wanted.files)
        if mine and not any(matches(file, [pattern]) for file in others):
            return pattern
    return path


def literal(path: str) -> str:
    """A pattern that matches this path alone: brackets are patterns too."""
    return "./" + "".join(f"[{char}]" if char in "*?[" else char for char in path)


def size_text(size: int) -> str:
    """`4.7 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def side_files(entries: Iterable[FileEntry]) -> list[str]:
    """Paths of what an engine needs beside weights: configuration, tokenizer, templates, code. Folders of other formats
    (onnx/, original/) are left out."""
    needed = []
    for entry in entries:
        lower = entry.path.lower()
        folder, _, name = lower.rpartition("/")
        if (
            name.endswith(_WEIGHTS + _NOT_NEEDED)
            or name.startswith(("license", "notice", "."))
            or ".index.json" in name
        ):
            continue
        if folder.split("/")[0] in {
            "onnx",
            "original",
            "openvino",
            "coreml",
            "metal",
            "gguf",
            ".git",
            "figures",
            "assets",
        }:
            continue
        needed.append(entry.path)
    return sorted(needed, key=lambda path: (path != "config.json", path))
