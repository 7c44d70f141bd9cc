"""Chat templates as tokenizers of Hugging Face's have them."""

from __future__ import annotations

from typing import Any


def chat_templates(told: Any) -> tuple[str | None, str | None]:
    """(for chats, for chats with tools) of a tokenizer's `chat_template`: a text, or texts by name, of which
    Transformers takes `default` and `tool_use`. What is no text is none."""
    named = told if isinstance(told, dict) else {"default": told}
    chat, tools = (named.get(name) for name in ("default", "tool_use"))
    return (chat if isinstance(chat, str) else None), (tools if isinstance(tools, str) else None)
