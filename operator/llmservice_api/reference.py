"""The field reference page, from the CRD's schema: every field with its type, default, bounds and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llmservice_api.crd import structural_schema
from llmservice_api.patterns import PATTERNS
from llmservice_api.v1alpha1 import API_VERSION, KIND

_HEAD = f"""# {KIND} {API_VERSION}: field reference

Generated from the API's models by `python -m llmservice_api.generate`; change them, not this page.
Unknown fields are refused. A field without a value is the same as no field.

| Field | Type | Default | Bounds | Meaning |
|---|---|---|---|---|
"""


def reference_page() -> str:
    """Markdown with one row per field of spec and status, then the rules that span fields."""
    schema = structural_schema()
    rows = [_ROW_NAME] + [row for part in ("spec", "status") for row in _rows(schema["properties"][part], part, schema)]
    rules = [f"- `{path}`: {rule['message']}" for path, rule in _rules(schema, "")]
    return _HEAD + "\n".join(rows) + "\n\n## Rules across fields\n\n" + "\n".join(rules) + "\n"


_MAP = "additionalProperties"
_ROW_NAME = (
    "| `metadata.name` | string | required | at most 40 characters; lower-case letters, digits and `-` | "
    "Name of the service, and of the model in requests. |"
)


def _rows(schema: dict[str, Any], path: str, parent: dict[str, Any]) -> Iterator[str]:
    required = path.rpartition(".")[2].removesuffix("[]") in parent.get("required", [])
    default = "required" if required else _code(schema["default"]) if "default" in schema else ""
    if not path.endswith("[]"):
        bounds = "; ".join(_bounds(schema))
        yield f"| `{path}` | {_type(schema)} | {default} | {bounds} | {_cell(schema.get('description', ''))} |"
    for name, child in schema.get("properties", {}).items():
        yield from _rows(child, f"{path}.{name}", schema)
    if "properties" in schema.get("items", {}):
        yield from _rows(schema["items"], f"{path}[]", schema)


def _type(schema: dict[str, Any]) -> str:
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}s"
    return f"map of {_type(schema[_MAP])}s" if _MAP in schema else str(schema["type"])


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield "one of " + ", ".join(_code(value) for value in schema["enum"])
    if "minimum" in schema:
        yield f"{schema['minimum']} to {schema['maximum']}" if "maximum" in schema else f"at least {schema['minimum']}"
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']} characters"
    if "pattern" in schema:
        yield _cell(PATTERNS[schema["pattern"]])
    if "maxProperties" in schema:
        yield f"at most {schema['maxProperties']} entries"
        yield from (f"each value {bound}" for bound in _bounds(schema[_MAP]))
    if "x-kubernetes-preserve-unknown-fields" in schema:
        yield "any fields; checked when pods are made"
    if "minItems" in schema:
        yield f"at least {schema['minItems']} items"
    if "maxItems" in schema:
        yield f"at most {schema['maxItems']} items"
    for key in schema.get("x-kubernetes-list-map-keys", []):
        yield f"each `{key}` once"
    if "items" in schema and "properties" not in schema["items"]:
        yield from (f"each item {bound}" for bound in _bounds(schema["items"]))


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, str]]]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield path + rule.get("fieldPath", "" if path else "metadata.name"), rule
    for name, child in schema.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}".removeprefix("."))


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
