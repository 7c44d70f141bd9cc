"""Which fields are in pods and which are live: declared beside each field, so that revisions and docs agree.

A field is in pods unless it is marked: forgetting the mark costs a roll, never one that does not happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

MARK = "x-live"
"""Key of a live field in the schema that pydantic makes; the CRD says it in the description."""
SENTENCE = "Live: editing it restarts nothing."


@dataclass(frozen=True, slots=True)
class Live:
    """The mark, as `Annotated[int, LIVE]`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {MARK: True}


LIVE = Live()


def in_pods(value: BaseModel) -> dict[str, Any]:
    """What of a model is in pods, as plain data without defaults: equal parts make equal pods."""
    return _in_pods(type(value), value.model_dump(mode="json", exclude_defaults=True))


def fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, bool]]:
    """(path as Kubernetes spells it, whether it is live) of every field that has no fields of its own."""
    for name, field in model.model_fields.items():
        here, inner = f"{path}.{field.alias or name}".removeprefix("."), _model(field.annotation)
        if inner is None:
            yield here, LIVE in field.metadata
        else:
            yield from ((below, live or LIVE in field.metadata) for below, live in fields(inner, here))


def _in_pods(model: type[BaseModel], dumped: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in dumped.items():
        field = model.model_fields[name]
        if LIVE in field.metadata:
            continue
        inner = _model(field.annotation)
        if inner is not None and isinstance(value, Mapping):
            value = _in_pods(inner, value)
            if not value:  # a part that is empty, or of which all is live, is not there
                continue
        kept[name] = value
    return kept


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is one, or may be absent."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    found = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
    return found[0] if found else None
