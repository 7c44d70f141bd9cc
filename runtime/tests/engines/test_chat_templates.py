"""Which chat template a model of Hugging Face's has, whatever its files say."""

from __future__ import annotations

from typing import Any

import pytest

from llmservice_runtime.engines.base.chat_templates import chat_templates


@pytest.mark.parametrize(
    ("told", "chat", "tools"),
    [
        ("{{ messages }}", "{{ messages }}", None),
        (None, None, None),
        ({"default": "a", "tool_use": "b", "rag": "c"}, "a", "b"),
        ({"rag": "c"}, None, None),
        ({"tool_use": "b"}, None, "b"),
        (5, None, None),
        (["a"], None, None),
        ({"default": 5, "tool_use": ["b"]}, None, None),
    ],
)
def test_a_template_is_a_text(told: Any, chat: str | None, tools: str | None) -> None:
    assert chat_templates(told) == (chat, tools)
