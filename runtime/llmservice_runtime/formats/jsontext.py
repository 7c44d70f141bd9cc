"""JSON from strangers: bounded, without duplicate keys, deep nesting or huge numbers."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from llmservice_runtime.formats.ranges import damaged

NODE_LIMIT = 2_000_000
"""Values in one document: bounds the memory that parsing takes."""


def parse_object(raw: bytes, name: str, unique: bool = True, constants: bool = False) -> dict[str, Any]:
    """The object in `raw`; with `unique` a key that comes twice is an error. Raises UnsupportedModel naming the file.

    With `constants` NaN and Infinity are read: Python writes them, and configurations of Mamba models hold them.
    """
    if raw.count(b",") + raw.count(b"{") + raw.count(b"[") > NODE_LIMIT:
        raise damaged(f"{name} holds more than {NODE_LIMIT} values.")
    try:
        text = raw.decode("utf-8-sig")
        value = json.loads(
            text, parse_constant=float if constants else _no_constant, object_pairs_hook=_unique if unique else None
        )
    except RecursionError:
        raise damaged(f"{name} is nested too deeply.") from None
    except ValueError as error:
        raise damaged(f"{name} is not valid JSON: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise damaged(f"{name} holds a JSON {type(value).__name__}, not an object.")
    return value


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON value")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in result if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} comes twice")
    return result
