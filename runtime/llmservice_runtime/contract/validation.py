"""What a validation library says of a value, as it may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BEFORE = ("Value error, ", "Assertion failed, ")
"""What pydantic puts before the words of a validator of ours."""


def said(details: Mapping[str, Any]) -> str:
    """The message of one of pydantic's errors, without its own prefix."""
    message = str(details["msg"])
    return next((message.removeprefix(words) for words in _BEFORE if message.startswith(words)), message)
