"""The file beside a GGUF model that sees pictures for it (mmproj): which one it is, and what its header says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmservice_runtime.formats.candidates import read_gguf
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import Vision
from llmservice_runtime.formats.gguf import GgufHeader
from llmservice_runtime.formats.gguf_kinds import kind_of
from llmservice_runtime.formats.listing import gguf_variants, matches, named_beside, quantization_in_name
from llmservice_runtime.formats.tensors import total_bytes
from llmservice_runtime.sources.files import FileEntry, ModelFiles

PREFERRED = ("F16", "BF16", "Q8_0", "F32")
"""What is taken of several versions: encoders are small, and suffer from coarse weights."""
LAST = "mm.2.weight"
"""What makes vectors of the model's width, in many projectors."""
OPENED = 8
"""Files whose headers are read at most."""


def projector(
    files: ModelFiles, entries: Sequence[FileEntry], include: Sequence[str], others: Iterable[str], width: int
) -> tuple[Vision | None, list[str]]:
    """The projector of a model of that `width` (numbers of a token's vector), and sentences on those not taken.

    `include` chooses among them where it matches any; it need not, to have one. `others` are files already found to be
    no models.
    """
    named = {v.files[0] for v in gguf_variants(entries) if named_beside(v)} | {*others}
    sizes = {entry.path: entry.size for entry in entries if entry.path in named}
    chosen = [path for path in sizes if include and matches(path, include)]
    candidates = sorted(sizes, key=lambda path: (path not in chosen, _order(path)))
    notes: list[str] = []
    for path in candidates[:OPENED]:
        header = _header(files, path, sizes[path])
        if header is None or kind_of(header.values) != "mmproj":
            continue
        if reason := _unfit(header, width):
            notes.append(f"{path} lies beside the model and is not loaded: it {reason}.")
        elif found := _vision(header, path):
            return found, notes
    return None, notes


def _order(path: str) -> tuple[int, str]:
    name = quantization_in_name(path[: -len(".gguf")])
    return PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), path


def _header(files: ModelFiles, path: str, size: int) -> GgufHeader | None:
    try:
        return read_gguf(files, path, size)
    except UnsupportedModel:
        return None


def _unfit(header: GgufHeader, width: int) -> str:
    """Why it is not this model's; empty = it is."""
    values = header.values
    if values.get("clip.has_vision_encoder") is not True:
        return "sees no pictures"
    last = next((tensor.shape[-1] for tensor in header.tensors if tensor.name == LAST), None)
    own = values.get("clip.vision.projection_dim") if last is None else last  # LLaVA's header has its encoder's own
    if type(own) is int and own and width and own != width:
        return f"is the projector of another model (of width {own}; this one has {width})"
    return ""


def _vision(header: GgufHeader, path: str) -> Vision:
    values = header.values
    kind = values.get("clip.vision.projector_type") or values.get("clip.projector_type")

    def number(*keys: str) -> int:
        found = (values.get(f"clip.vision.{key}") for key in keys)
        return next((value for value in found if type(value) is int and 0 < value < 1 << 32), 0)

    return Vision(
        kind=kind if isinstance(kind, str) else "",
        image_size=number("image_size"),
        patch_size=number("patch_size"),
        merge=number("spatial_merge_size", "projector.scale_factor"),
        hidden_size=number("embedding_length"),
        feed_forward=number("feed_forward_length"),
        heads=number("attention.head_count"),
        file=path,
        weight_bytes=total_bytes(header.tensors),
    )
