"""Which part of a JSON schema can't be honoured: the smallest one that fails alone, for the same reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
ONES = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "additionalItems")
TRIES = 100
WIDE = 150
"""Alternatives at one place from which on it is worth to look whether they are too many."""
WIDEST, DEPTH = 16, 4

Schema = dict[str, Any]


def parts(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas directly below this one, with their paths in it."""
    for name in (*MAPS, *LISTS):
        below = schema.get(name)
        items: list[tuple[Any, Any]] = []
        if isinstance(below, dict) and name in MAPS:
            items = list(below.items())
        elif isinstance(below, list) and name in LISTS:
            items = list(enumerate(below))
        yield from ((f"{name}.{key}", part) for key, part in items if isinstance(part, dict))
    yield from ((name, schema[name]) for name in ONES if isinstance(schema.get(name), dict))


def locate(schema: Schema, reason: str, problem: Callable[[Schema], str]) -> tuple[str, str]:
    """The smallest part that `problem` says the like of as `reason`: its path (empty = the whole) and what it says.

    Every part is looked at with the definitions of the whole, so that its references lead somewhere.
    """
    path: list[str] = []
    tries, here = TRIES, schema
    while True:
        for name, part in parts(here):
            tries -= 1
            if tries < 0:
                return ".".join(path), reason
            said = problem({**_shared(schema), **part})
            if _kind(said) == _kind(reason):
                path.append(name)
                here, reason = part, said
                break
        else:
            return ".".join(path), reason


def wide_parts(schema: Schema) -> list[tuple[str, Schema]]:
    """The places where many alternatives begin, the widest first, each with the definitions of the whole.

    A walk through an answer may never come by there; an answer may.
    """
    found: list[tuple[int, str, Schema]] = []
    todo: list[tuple[str, Schema]] = [("", schema)]
    while todo:
        path, part = todo.pop()
        if (width := _width(part, schema, 0)) > WIDE:
            found.append((width, path, {**_shared(schema), **part}))
        todo += [(f"{path}.{name}" if path else name, below) for name, below in parts(part)]
    return [(path, part) for _, path, part in sorted(found, key=lambda item: -item[0])[:WIDEST]]


def _width(part: Any, whole: Schema, depth: int) -> int:
    """How many keys or branches may come next where this part begins."""
    if not isinstance(part, dict) or depth > DEPTH:
        return 1
    branches = [*_list(part.get("anyOf")), *_list(part.get("oneOf"))]
    width = sum(_width(branch, whole, depth + 1) for branch in branches)
    properties, required = part.get("properties"), _list(part.get("required"))
    if isinstance(properties, dict):
        width += len(properties) - min(len(required), len(properties)) + 1
    if isinstance(target := _target(part.get("$ref"), whole), dict):
        width += _width(target, whole, depth + 1)
    return max(width, 1)


def _target(reference: Any, whole: Schema) -> Any:
    """What `#/$defs/name` refers to; None for anything else."""
    here: Any = whole
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    for name in reference[2:].split("/"):
        here = here.get(name) if isinstance(here, dict) else None
    return here


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _shared(schema: Schema) -> Schema:
    return {name: schema[name] for name in ("$defs", "definitions", "x-guidance") if name in schema}


def _kind(reason: str) -> str:
    """What kind of reason it is: the words before its particulars."""
    return re.sub(r"\d+", "0", reason.partition(":")[0])
