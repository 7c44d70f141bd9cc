"""What a chat template gets beside messages: tools, documents, switches of thinking in every spelling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llmservice_runtime.openai.requests.chat import ChatRequest, Thinking, Tool
from llmservice_runtime.openai.templates import Options, TemplateText
from llmservice_runtime.wire.errors import bad_request, unsupported


def prompt_options(template: TemplateText, request: ChatRequest, tools: Sequence[Tool]) -> Options:
    """What stands beside the messages; ApiError 400 for what this template can't be given."""
    continues = request.continue_final_message
    kwargs = _template_kwargs(request, template)
    if continues and _asks_for_turn(request):
        raise bad_request(
            "`continue_final_message` and `add_generation_prompt` exclude each other.", "continue_final_message"
        )
    return {
        "tools": dumped(tools),
        "documents": request.documents,
        "kwargs": kwargs,
        "add_generation_prompt": not continues and request.add_generation_prompt,
        "continue_final_message": continues,
    }


def dumped(tools: Sequence[Tool]) -> list[dict[str, Any]] | None:
    """Tools as the template reads them; None = there are none."""
    return [tool.model_dump(exclude_unset=True) for tool in tools] or None


def _asks_for_turn(request: ChatRequest) -> bool:
    """Whether the client itself asked for a new turn of the assistant (it is the default otherwise)."""
    return "add_generation_prompt" in request.model_fields_set and request.add_generation_prompt


def _template_kwargs(request: ChatRequest, template: TemplateText) -> dict[str, Any]:
    """Variables for the template. Thinking switches come in every spelling; a template reads the one it knows."""
    kwargs: dict[str, Any] = {}
    thinking = request.enable_thinking
    if thinking is None and request.thinking is not None:
        thinking = request.thinking.type != "disabled" if isinstance(request.thinking, Thinking) else request.thinking
    if request.reasoning_effort is not None:
        kwargs["reasoning_effort"] = request.reasoning_effort
        if thinking is None:
            thinking = request.reasoning_effort != "none"
    if request.verbosity is not None:
        kwargs["verbosity"] = request.verbosity
    if thinking is not None:
        kwargs["enable_thinking"] = kwargs["thinking"] = thinking
    kwargs |= request.chat_template_kwargs or {}
    reserved = {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"} & set(kwargs)
    if reserved:
        name = sorted(reserved)[0]
        raise bad_request(f"`chat_template_kwargs.{name}` is reserved.", f"chat_template_kwargs.{name}")
    if request.documents and not re.search(r"\bdocuments\b", template.source):
        raise unsupported("documents", "this model's chat template does not take documents; put them into a message.")
    return kwargs
