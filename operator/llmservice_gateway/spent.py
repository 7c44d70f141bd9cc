"""Usage in a stream: every engine is asked for it, and it is taken out again where the client did not ask. Pure."""

from __future__ import annotations

import json
import re

MARK = b'"prompt_tokens"'
"""In every event that tells usage, and in no other: in a text the quotes have backslashes."""
_END = re.compile(rb"((?:\r\n|\n|\r(?!\n)){2})")
"""Of an event: an empty line."""


def without_usage(events: bytes) -> bytes:
    """Whole events but those that tell of usage alone, which engines send at the end to who asks."""
    parts = _END.split(events)
    bodies, ends = parts[::2], [*parts[1::2], b""]
    return b"".join(body + end for body, end in zip(bodies, ends, strict=True) if not _usage_alone(body))


def _usage_alone(event: bytes) -> bool:
    if MARK not in event:
        return False
    lines = [line.removeprefix(b"data:") for line in event.splitlines() if line.startswith(b"data:")]
    try:
        said = json.loads(b"\n".join(lines))
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("choices") == [] and isinstance(said.get("usage"), dict)
