"""The bodies of /v1/completions, /tokenize and /detokenize."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from llmservice_runtime.openai.requests.chat import Messages, Tools
from llmservice_runtime.openai.requests.fields import (
    MAX_CHOICES,
    MAX_TOP_LOGPROBS,
    Flag,
    Id,
    SharedFields,
    Strict,
    Whole,
)


class CompletionRequest(SharedFields):
    """POST /v1/completions. A list of prompts gives `n` choices for each, in order."""

    prompt: str | list[Id] | list[str] | list[list[Id]]
    max_tokens: Whole | None = Field(16, ge=0)
    """0 only together with `echo`."""
    echo: Flag = False
    logprobs: Whole | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    best_of: Whole | None = Field(None, ge=1, le=MAX_CHOICES)
    add_special_tokens: Flag = True


class TokenizeRequest(Strict):
    """POST /tokenize: either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: Flag = True
    continue_final_message: Flag = False
    add_special_tokens: Flag | None = None
    """Default: yes for a prompt, no for messages (their template writes the special tokens)."""
    return_token_strs: Flag = False


class DetokenizeRequest(Strict):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[Id]
    """No more than the context has."""
