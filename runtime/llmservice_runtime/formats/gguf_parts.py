"""Parts of a split GGUF: their headers count them, and llama.cpp finds them by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.gguf import GgufHeader
from llmservice_runtime.formats.listing import GgufVariant, named_as_shard
from llmservice_runtime.formats.ranges import damaged

SHOWN = 8
"""Files and numbers that a message names."""


def part_of(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """(number from 1, count) of a file that is a part of a split model."""
    number, count = values.get("split.no", 0), values.get("split.count", 1)
    if type(number) is not int or type(count) is not int or count < 2 or not 0 <= number < count:
        return None
    return number + 1, count


def impossible_part(values: Mapping[str, Any], path: str) -> UnsupportedModel | None:
    """The error of a header that counts from 0 and is at the number of parts or beyond it, as llama.cpp has it."""
    number, count = values.get("split.no", 0), values.get("split.count", 1)
    if type(number) is int and type(count) is int and 0 <= number < max(1, count):
        return None
    stated = f"split.no is {str(number)[:20]}, split.count {str(count)[:20]}"
    return damaged(f"{path} is no part of a split model that can be: {stated}, and parts count from 0.")


def wrong_parts(headers: Sequence[GgufHeader], variant: GgufVariant) -> UnsupportedModel | None:
    """Why the files of a variant are not one whole model; None when they are."""
    for path, header in zip(variant.files, headers, strict=True):
        if error := impossible_part(header.values, path):
            return error
    found = {path: part_of(header.values) for path, header in zip(variant.files, headers, strict=True)}
    parts = {path: part for path, part in found.items() if part}
    expected = {path: (number, len(variant.files)) for number, path in enumerate(variant.files, 1)}
    if parts and (parts != expected or not named_as_shard(variant.files[0])):
        return renamed_parts(parts)
    total = headers[0].values.get("split.tensors.count")
    present = sum(header.tensor_count for header in headers)
    if type(total) is int and parts and total != present:
        return damaged(f"the parts of {variant.files[0]} hold {present} tensors; {total} were split.")
    if not parts and len(variant.files) > 1:
        return damaged(
            f"{variant.files[0]} is named as a part of a split model, but its header says nothing of it.",
            "Rename it, or name the file alone in spec.model.include.",
        )
    return None


def renamed_parts(parts: Mapping[str, tuple[int, int]]) -> UnsupportedModel:
    """The error of parts without the names that llama.cpp looks for: which they are, and what each must be called."""
    count = max(count for _, count in parts.values())
    have = {number for number, _ in parts.values()}
    lacking = [number for number in range(1, min(count, 10_000) + 1) if number not in have]
    stem = _stem(list(parts))
    names = {path: f"{stem}-{number:05d}-of-{count:05d}.gguf" for path, (number, _) in parts.items()}
    number, times = Counter(number for number, _ in parts.values()).most_common(1)[0]
    if times > 1:
        twice = [path for path, (own, _) in parts.items() if own == number]
        return damaged(
            f"{' and '.join(twice[:SHOWN])} are each part {number} of a model that is split into {count}.",
            "Keep the parts of one model, and move the others to another folder.",
        )
    renames = [f"{path} to {name.rsplit('/', 1)[-1]}" for path, name in names.items() if path != name]
    shown = ", ".join(f"{path} (part {number})" for path, (number, _) in list(parts.items())[:SHOWN])
    reason = (
        f"of a model that is split into {count} parts, {len(have)} {'is' if len(have) == 1 else 'are'} here: {shown}"
    )
    remedies = []
    if lacking:
        numbers = ", ".join(map(str, lacking[:SHOWN])) + (", ..." if len(lacking) > SHOWN else "")
        wanted = f"{stem}-{lacking[0]:05d}-of-{count:05d}.gguf".rsplit("/", 1)[-1]
        remedies.append(f"Get part{'s' * (len(lacking) > 1)} {numbers} too, named {wanted} and so on.")
    if renames:
        more = f" and so on to part {count}" if len(renames) > SHOWN else ""
        remedies.append(f"Rename {', '.join(renames[:SHOWN])}{more}.")
    return damaged(f"{reason}. llama.cpp finds the parts by their names.", " ".join(remedies))


def _stem(paths: Sequence[str]) -> str:
    """What the names have in common, without numbers and separators at its end."""
    first = sorted(paths)[0]
    if named_as_shard(first):
        return first[: -len("-00001-of-00002.gguf")]
    last = sorted(paths)[-1]
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shared = first[:same].removesuffix(".gguf")
    stem = shared.rstrip("0123456789-_. ()")
    return stem if stem and not stem.endswith("/") else f"{stem}model"
