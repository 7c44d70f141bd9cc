"""Validation errors as sentences: which field, what is wrong with which value, what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from llmservice_api.patterns import PATTERNS
from llmservice_api.rules import RULE_BROKEN
from llmservice_runtime.contract.validation import said

Location = tuple[int | str, ...]
_TEXT = "a text", "Put it in quotes."
_INTEGER = "an integer", "Write a whole number: digits alone, without quotes or a unit."
_MAPPING = "a mapping", "Write fields with their values below it."
JSON_TYPES = {
    "string_type": _TEXT,
    "int_type": _INTEGER,
    "int_from_float": _INTEGER,
    "bool_type": ("true or false", "Write true or false, without quotes."),
    "list_type": ("a list", "Write its items below it, each after `- `."),
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "model_attributes_type": _MAPPING,
}
"""Kind of error -> what is wanted, and how it is written."""


def field_path(location: Location) -> str:
    """`("spec", "engine", "env", 0)` -> `spec.engine.env[0]`; names without end are cut."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if len(part) <= 80 else f".{part[:60]}..."
    return text.removeprefix(".")


def explain(error: ErrorDetails, root: type[BaseModel]) -> tuple[Location, str, str]:
    """One pydantic error of `root` -> (location of the blame, reason, remedy), both sentences."""
    location, kind, value = error["loc"], error["type"], error.get("input")
    context = error.get("ctx", {})
    if kind == RULE_BROKEN:
        return (*location, *_parse_field(context["field"])), context["message"], context["remedy"]
    if kind == "missing":
        return location, "this field is required and has no value.", "Add it."
    if kind == "extra_forbidden":
        return location, "there is no such field.", _unknown_field(location, root)
    if kind in ("enum", "literal_error"):
        allowed = list(_texts(location, root)) or [str(context["expected"]).replace("'", "")]
        return location, f"{_show(value)} is not one of {', '.join(allowed)}.", _did_you_mean(str(value), allowed)
    if kind in JSON_TYPES:
        wanted, remedy = JSON_TYPES[kind]
        if value is None:
            remedy = "Give it a value, or leave the field out."
        elif kind == "string_type" and isinstance(value, list | dict):
            remedy = "Write one text."
        return location, f"{_show(value)} is not {wanted}.", remedy
    if kind == "string_pattern_mismatch":
        words = PATTERNS.get(context["pattern"], f"text that matches {context['pattern']}")
        return location, f"{_show(value)} is not allowed.", f"Use {words}."
    return location, *_bound(kind, value, context, said(error))


def _bound(kind: str, value: Any, context: dict[str, Any], message: str) -> tuple[str, str]:
    if kind in ("string_too_long", "string_too_short", "too_long", "too_short"):
        unit = ("character" if kind.startswith("string") else "item") + "s" * (len(value) != 1)
        limit = context.get("max_length", context.get("min_length"))
        most, may = ("at most", "are allowed") if kind.endswith("long") else ("at least", "are needed")
        return f"it has {len(value)} {unit}; {most} {limit} {may}.", f"Give {most} {limit}."
    if kind in ("greater_than_equal", "less_than_equal"):
        most, limit = ("at least", context["ge"]) if kind.startswith("greater") else ("at most", context["le"])
        return f"{_show(value)} is out of range.", f"Give {most} {limit}."
    return f"{_show(value)} is not valid: {message[0].lower()}{message[1:]}.", "Correct it."


def _show(value: Any) -> str:
    """The value as it would stand in JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:60] + " ..."


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    if len(word) > 80:
        return "Use one of these."
    folded = {_fold(name): name for name in known}
    close = get_close_matches(_fold(word), folded, n=1, cutoff=0.6)
    return f"Did you mean {folded[close[0]]}?" if close else "Use one of these."


def _fold(word: str) -> str:
    """Case and word separators are the commonest slips: `drain_seconds` for drainSeconds."""
    return word.replace("_", "").replace("-", "").casefold()


def _unknown_field(location: Location, root: type[BaseModel]) -> str:
    parent, name = location[:-1], str(location[-1])
    known = [field.alias or key for key, field in (_model_at(parent, root) or root).model_fields.items()]
    suggestion = _did_you_mean(name, known)
    if suggestion.startswith("Did"):
        return suggestion
    elsewhere = [path for path in _all_paths(root) if _fold(path.rpartition(".")[2]) == _fold(name)]
    if elsewhere:
        return f"It belongs at {elsewhere[0]}."
    return f"Remove it; {field_path(parent) or 'the object'} has: {', '.join(sorted(known))}."


def _parse_field(field: str) -> Iterator[int | str]:
    for part in field.replace("[", ".[").strip(".").split("."):
        yield int(part[1:-1]) if part.startswith("[") else part


def _annotation_at(location: Location, root: type[BaseModel]) -> Any:
    annotation: Any = root
    for part in location:
        if isinstance(part, int):
            annotation = _bare((get_args(annotation) or (Any,))[0])
            continue
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        fields = {field.alias or key: field for key, field in annotation.model_fields.items()}
        if part not in fields:
            return None
        annotation = _bare(fields[part].annotation)
    return annotation


def _bare(annotation: Any) -> Any:
    """Without `| None` and Annotated."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(option for option in get_args(annotation) if option is not type(None))
    if hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    return annotation


def _model_at(location: Location, root: type[BaseModel]) -> type[BaseModel] | None:
    annotation = _annotation_at(location, root)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _texts(location: Location, root: type[BaseModel]) -> Iterator[str]:
    annotation = _annotation_at(location, root)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (str(option.value) for option in annotation)
    else:
        yield from (str(option) for option in get_args(annotation))


def _all_paths(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field below spec and metadata, outer ones first."""
    below = []
    for key, field in root.model_fields.items():
        path = f"{prefix}.{field.alias or key}".removeprefix(".")
        if path == "status":
            continue
        yield path
        inner = _bare(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            below.append((inner, path))
    for inner, path in below:
        yield from _all_paths(inner, path)
