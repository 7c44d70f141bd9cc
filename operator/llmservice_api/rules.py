"""Rules that span fields: each stands once, as CEL for the API server and as Python for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

RULE_BROKEN = "rule_broken"
"""Type of the pydantic error a broken rule raises; its context has `field`, `message` and `remedy`."""


def no_items() -> list[Any]:
    """Default of a list. Pydantic asks what its default factories take, and of `list` that takes it a parser."""
    return []


def no_entries() -> dict[str, Any]:
    """Default of a mapping; see above."""
    return {}


@dataclass(frozen=True, slots=True)
class Rule:
    """`cel` and `holds` say the same about one object.

    `field` is the field to blame as Kubernetes spells it (`.uri`), `message` a sentence, `remedy` what to do.
    `created`: it is about what can't be changed, so the API server asks it of new objects only. One that an older
    schema let in could never be written again otherwise, and neither could its status.
    """

    field: str
    cel: str
    holds: Callable[[Any], bool]
    message: str
    remedy: str
    created: bool = False

    def to_kubernetes(self) -> dict[str, str | bool]:
        """An entry of x-kubernetes-validations. A CRD's schema does not know metadata: no field there can be blamed."""
        entry: dict[str, str | bool] = {"rule": self.cel, "message": f"{self.message} {self.remedy}"}
        if self.created:
            entry |= {"rule": f"oldSelf.hasValue() || ({self.cel})", "optionalOldSelf": True}
        if not self.field.startswith(".metadata"):
            entry["fieldPath"] = self.field
        return entry


class ApiModel(BaseModel):
    """Base of every API type: camelCase on the wire, unknown fields refused, values immutable, `rules` hold."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, defer_build=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def omitted(cls) -> Self:
        """What it is where nothing is said of it. Not validated: that would take a validator of its own, beside the one
        of what it stands in, and a command takes longer to build these than for all it does."""
        return cls.model_construct()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        from llmservice_api.docstrings import attribute_docstrings  # only who generates a schema is here

        for name, text in attribute_docstrings(cls).items():
            field = cls.model_fields[name]
            if field.description is None:
                schema["properties"][field.alias or name].setdefault("description", text)
        if cls.rules:
            schema["x-kubernetes-validations"] = [rule.to_kubernetes() for rule in cls.rules]
        return schema

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                context = {"field": rule.field, "message": rule.message, "remedy": rule.remedy}
                raise PydanticCustomError(RULE_BROKEN, "{message} {remedy}", context)
        return self


@dataclass(frozen=True, slots=True)
class ListMap:
    """Marks a list whose items are told apart by `key` (an attribute): each key stands once, and apply merges by it."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _check(self, items: Sequence[Any]) -> Sequence[Any]:
        first: dict[Any, int] = {}
        for index, item in enumerate(items):
            value = getattr(item, self.key)
            if value in first:
                context = {
                    "field": f"[{index}].{self.key}",
                    "message": f"{value!r} stands twice, first in item {first[value]}.",
                    "remedy": "Keep one of them.",
                }
                raise PydanticCustomError(RULE_BROKEN, "{message} {remedy}", context)
            first[value] = index
        return items
