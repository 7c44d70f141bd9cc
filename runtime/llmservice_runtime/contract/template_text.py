"""What the text of a chat template says that its model does. Pure: nothing is rendered, nothing compiled."""

from __future__ import annotations

import re

THINKING = ("reasoning_content", "reasoning", "thinking")
"""What templates call a message's thinking."""
CLOSINGS = ("</think>", "<channel|>", "[/THINK]")
"""Ends of thinking, in templates that leave that of earlier answers out."""
THINKS, CALLS = "Thinking", "Tools"
ABILITIES = (THINKS, CALLS)

_CODE = re.compile(r"\{[{%].*?(?:[%}]\}|\Z)", re.DOTALL)
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)", re.DOTALL)
"""Both end with the template where they have no end: whatever is written there is looked at once."""
_FIELD = re.compile(rf"\.(?:{'|'.join(THINKING)})\b")
_WORD = rf"(['\"])(?:{'|'.join(THINKING)})\1"
_NAMED = re.compile(rf"(?:\[|\bget\()\s*{_WORD}"), re.compile(rf"{_WORD}\s+(?:not\s+)?in\b")
_TOOLS = re.compile(r"(?<![.\w])tools\b")


def abilities(source: str) -> tuple[str, ...]:
    """Which of ABILITIES: it reads a message's thinking or knows its end, it writes definitions of tools."""
    code = _CODE.findall(source)
    thinks = any(closing in source for closing in CLOSINGS) or any(by.search(part) for by in _NAMED for part in code)
    bare = [_TEXT.sub("''", part) for part in code]
    thinks = thinks or any(_FIELD.search(part) for part in bare)
    calls = any(_TOOLS.search(part) for part in bare)
    return tuple(name for name, found in ((THINKS, thinks), (CALLS, calls)) if found)


def of_templates(told: object) -> tuple[str, ...] | None:
    """The same of a tokenizer's `chat_template`: a text, or texts by name as an object or a list of them. None = there
    is no text."""
    named = told.values() if isinstance(told, dict) else told if isinstance(told, list) else (told,)
    texts = [one.get("template") if isinstance(one, dict) else one for one in named]
    found = [abilities(text) for text in texts if isinstance(text, str)]
    return tuple(name for name in ABILITIES if any(name in one for one in found)) if found else None
