"""Values that stand in markup without quotes: text as it is, anything else as JSON. The tool's schema tells which."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.openai.requests.chat import Tool

CDATA = ("<![CDATA[", "]]>")


KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
KINDS |= {dict: "object", list: "array"}
ANY = frozenset(KINDS.values())
MAX_DEPTH = 16
"""Of references and alternatives that are followed; what is beyond them may be anything."""


def schemas(tools: Sequence[Tool]) -> dict[str, Mapping[str, frozenset[str]]]:
    """Of each tool, the kinds of value that its arguments may be, by name."""
    found: dict[str, Mapping[str, frozenset[str]]] = {}
    for tool in tools:
        parameters = tool.function.parameters or {}
        properties = parameters.get("properties")
        named = properties if isinstance(properties, Mapping) else {}
        found[tool.function.name] = {name: kinds(schema, parameters) for name, schema in named.items()}
    return found


def followed(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema that a local `$ref` (`#/$defs/Color`) stands for; anything else as it is."""
    for _ in range(MAX_DEPTH):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        schema = found
    return schema


def kinds(schema: Any, root: Mapping[str, Any], depth: int = MAX_DEPTH) -> frozenset[str]:
    """JSON's names of what a value with this schema may be; `root` is what its references look into."""
    schema = followed(schema, root)
    if not isinstance(schema, Mapping) or depth == 0:
        return ANY
    found = ANY
    options = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(options, Sequence) and options:
        found &= {KINDS.get(type(option), "null") for option in options}
    kind = schema.get("type")
    if isinstance(kind, str | list):
        named = {kind} if isinstance(kind, str) else {name for name in kind if isinstance(name, str)}
        found &= named | ({"integer"} if "number" in named else set())
    for word in ("anyOf", "oneOf"):
        if isinstance(among := schema.get(word), list) and among:
            found &= frozenset().union(*(kinds(one, root, depth - 1) for one in among))
    if isinstance(every := schema.get("allOf"), list):
        found = found.intersection(*(kinds(one, root, depth - 1) for one in every))
    return found


def read_value(written: str, allowed: frozenset[str], text: bool | None) -> str:
    """One value as JSON. `allowed`: its kinds. `text`: whether its markup says that it is text; None = they say."""
    if written.startswith(CDATA[0]) and written.endswith(CDATA[1]):
        return json.dumps(written[len(CDATA[0]) : -len(CDATA[1])], ensure_ascii=False)
    if text or (text is None and allowed == {"string"}):
        return json.dumps(written, ensure_ascii=False)
    try:
        value = json.loads(written)
        if text is False or "string" not in allowed or _kind(value) in allowed:
            return json.dumps(value, ensure_ascii=False)
        return json.dumps(written, ensure_ascii=False)
    except (ValueError, RecursionError):
        pass
    try:  # some templates print lists and objects as Python does
        value = ast.literal_eval(written.strip())
        if text is False or "string" not in allowed or _kind(value) in allowed:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    return json.dumps(written, ensure_ascii=False)


def _kind(value: object) -> str:
    return KINDS.get(type(value), "")
