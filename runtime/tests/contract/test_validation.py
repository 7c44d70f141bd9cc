"""What is shown of a validation library's errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from llmservice_runtime.contract.validation import said

ROOMS = Path(__file__).parents[3]


class _Checked(BaseModel):
    size: int = 0

    @field_validator("size", mode="before")
    @classmethod
    def check(cls, value: Any) -> Any:
        if value == "raised":
            raise ValueError("a size is needed")
        assert value != "asserted", "a size is needed"
        return value


@pytest.mark.parametrize(
    ("value", "words"),
    [("raised", "a size is needed"), ("asserted", "a size is needed"), ("x", "Input should be a valid integer")],
)
def test_a_validator_speaks_for_itself(value: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _Checked.model_validate({"size": value})
    (details,) = caught.value.errors()
    assert said(details).startswith(words)


def test_no_message_goes_past_it() -> None:
    """Whoever shows one of pydantic's messages asks for it there."""
    past = [
        str(path.relative_to(ROOMS))
        for room in ("operator", "runtime/llmservice_runtime")
        for path in (ROOMS / room).rglob("*.py")
        if path.name != "validation.py" and "/tests/" not in str(path)
        if any(word in path.read_text(encoding="utf-8") for word in ('["msg"]', "['msg']"))
    ]
    assert not past
