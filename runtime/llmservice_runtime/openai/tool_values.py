"""Values that stand in markup without quotes: text as it is, anything else as JSON. The tool's schema tells which."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.openai.requests.chat import Tool

CDATA = ("<![CDATA[", "]]>")


def schemas(tools: Sequence[Tool]) -> dict[str, Mapping[str, Any]]:
    """Of each tool, its arguments by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        properties = (tool.function.parameters or {}).get("properties")
        found[tool.function.name] = properties if isinstance(properties, Mapping) else {}
    return found


def only_text(schema: Any) -> bool:
    """Whether an argument with this schema is always text."""
    if not isinstance(schema, Mapping):
        return False
    options = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if isinstance(options, Sequence) and options:
        return all(isinstance(option, str) for option in options)
    return schema.get("type") in ("string", ["string"])


def maybe_text(schema: Any) -> bool:
    """Whether it may be text."""
    if not isinstance(schema, Mapping) or only_text(schema):
        return True
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind == "string"
    return "string" in kind if isinstance(kind, list) else not ("enum" in schema or "const" in schema)


def read_value(written: str, schema: Any, text: bool | None) -> str:
    """One value as JSON. `text`: whether its markup says that it is text; None = the schema says."""
    if written.startswith(CDATA[0]) and written.endswith(CDATA[1]):
        return json.dumps(written[len(CDATA[0]) : -len(CDATA[1])], ensure_ascii=False)
    if text or (text is None and only_text(schema)):
        return json.dumps(written, ensure_ascii=False)
    try:
        return json.dumps(json.loads(written), ensure_ascii=False)
    except (ValueError, RecursionError):
        pass
    try:  # some templates print lists and objects as Python does
        return json.dumps(ast.literal_eval(written.strip()), ensure_ascii=False, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return json.dumps(written, ensure_ascii=False)
