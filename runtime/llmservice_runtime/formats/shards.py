"""Which safetensors or pickle files are one whole checkpoint: an index, names or the tensors themselves say so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.in_place import WAY_OUT
from llmservice_runtime.formats.listing import literal, size_text
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.safetensors import SafetensorsHeader
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.shards import siblings

TENSOR_LIMIT = 500_000
SHOWN = 8
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.[A-Za-z0-9]+)")
_REMEDY = "Download every shard, and let `include` match all of them."


def whole(
    found: Sequence[FileEntry],
    headers: Mapping[str, SafetensorsHeader],
    index: Any,
    index_name: str,
    in_place: bool = False,
) -> list[FileEntry]:
    """The files of the one checkpoint among `found`; `headers` are of safetensors, empty for pickles.

    `index` is the weight_map (tensor -> file) of the index, whatever its type. Raises UnsupportedModel when a file is
    missing, is one under another name, or when there are several checkpoints; `in_place`, choosing one would not help.
    """
    present = {entry.path: entry for entry in found}
    if isinstance(index, dict) and index:
        tensors: dict[str, set[str]] = {}
        for tensor, path in index.items():
            if isinstance(path, str):
                tensors.setdefault(path, set()).add(tensor)
        if lacking := sorted(tensors.keys() - present.keys()):
            held = {path: {tensor.name for tensor in header.tensors} for path, header in headers.items()}
            if len(found) == 1 and (not held or held[found[0].path] >= index.keys()):
                return list(found)  # merged since, beside the index of the shards it was
            raise _missing(lacking, tensors, {p: names for p, names in held.items() if p not in tensors}, index_name)
        return _one([present[path] for path in sorted(tensors)], headers, in_place)
    for entry in found:
        names = siblings(entry.path)
        if lacking := [name for name in names if name not in present]:
            raise damaged(f"{lacking[0]} is missing: {entry.path} is one of {len(names)} files.", _REMEDY)
    return _one(found, headers, in_place)


def _missing(
    lacking: Sequence[str], tensors: Mapping[str, set[str]], strangers: Mapping[str, set[str]], index_name: str
) -> UnsupportedModel:
    """The error of files that an index names and that are not there, or are under other names."""
    renames = [
        f"{path} to {name}" for name in lacking for path, held in strangers.items() if held and held == tensors[name]
    ]
    reason = f"{index_name} names {len(tensors)} files, {lacking[0][:120]} is missing"
    if renames:
        return damaged(
            f"{reason}, and {len(renames)} of them {'is' if len(renames) == 1 else 'are'} here under another name.",
            f"Rename {', '.join(renames[:SHOWN])}."
            + (f" Then get the {len(lacking) - len(renames)} missing." if len(renames) < len(lacking) else ""),
        )
    return damaged(f"{reason}.", _REMEDY)


def _one(found: Sequence[FileEntry], headers: Mapping[str, SafetensorsHeader], in_place: bool) -> list[FileEntry]:
    """The files, when no tensor stands in two of them."""
    seen: dict[str, str] = {}
    for entry in found if headers else ():
        for tensor in headers[entry.path].tensors:
            if (other := seen.setdefault(tensor.name, entry.path)) != entry.path:
                raise _several(found, tensor.name, other, entry.path, in_place)
    if len(seen) > TENSOR_LIMIT:
        raise damaged(f"the files hold {len(seen)} tensors; more than {TENSOR_LIMIT} are refused.")
    return list(found)


def _several(found: Sequence[FileEntry], tensor: str, first: str, second: str, in_place: bool) -> UnsupportedModel:
    """The error of several checkpoints in one folder, with a choice that works."""
    groups: dict[str, int] = {}
    for entry in found:
        shard = _SHARD.fullmatch(entry.path)
        pattern = literal(entry.path)
        if shard:
            pattern = f"{literal(shard['stem'])}-?????-of-{shard['count']}{shard['suffix']}"
        groups[pattern] = groups.get(pattern, 0) + entry.size
    listed = [f"{pattern.removeprefix('./')} ({size_text(size)})" for pattern, size in groups.items()][:SHOWN]
    if len(groups) == 1:
        return damaged(f"{first} and {second} both hold the tensor {tensor[:80]!r}.", "Download the files again.")
    return damaged(
        f"there are {len(groups)} checkpoints, {'; '.join(listed)}: {first} and {second} both hold {tensor[:80]!r}.",
        f"{WAY_OUT[0].upper()}{WAY_OUT[1:]}."
        if in_place
        else f'Name one in spec.model.include, for example include: ["{next(iter(groups))}"].',
    )
