"""The body of /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from llmservice_runtime.openai.requests.fields import MAX_TOP_LOGPROBS, Flag, SharedFields, Strict, Whole

MAX_TOOLS = 128


class Message(BaseModel):
    """One message. Fields beyond these reach the chat template as they are."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ToolFunction(BaseModel):
    """What a model may call; `parameters` is a JSON schema. Fields beyond these reach the chat template."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag | None = None


class Tool(BaseModel):
    """One entry of `tools`."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: ToolFunction


class ToolName(Strict):
    """The function that `tool_choice` names."""

    name: str


class NamedToolChoice(Strict):
    """`tool_choice` that names one function."""

    type: Literal["function"]
    function: ToolName


class AllowedTools(Strict):
    """Of all `tools` those that may be called, and whether one must be."""

    mode: Literal["auto", "required"]
    tools: list[NamedToolChoice] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedToolChoice(Strict):
    """`tool_choice` that leaves some of the functions."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _kind(choice: Any) -> str | None:
    kind = choice.get("type") if isinstance(choice, dict) else getattr(choice, "type", None)
    return {"function": "named", "allowed_tools": "allowed"}.get(kind) if isinstance(kind, str) else None


ToolChoice = Annotated[
    Annotated[NamedToolChoice, Tag("named")] | Annotated[AllowedToolChoice, Tag("allowed")],
    Discriminator(
        _kind,
        custom_error_type="tool_choice",
        custom_error_message="An object should have `type` 'function' or 'allowed_tools'",
    ),
]


Messages = Annotated[list[Message], Field(min_length=1, max_length=100_000)]
Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS)]


class Thinking(BaseModel):
    """`thinking: {type}` as Dify and Anthropic-style clients send it."""

    type: Literal["enabled", "disabled", "auto"]


class ChatRequest(SharedFields):
    """POST /v1/chat/completions."""

    messages: Messages
    max_tokens: Whole | None = Field(None, ge=1)
    max_completion_tokens: Whole | None = Field(None, ge=1)
    logprobs: Flag = False
    top_logprobs: Whole | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: Flag = True
    documents: list[dict[str, Any]] | None = Field(None, max_length=1024)
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: Flag = True
    continue_final_message: Flag = False
    add_special_tokens: Flag = False
    enable_thinking: Flag | None = None
    thinking: Thinking | Flag | None = None
    reasoning_format: Literal["none", "raw", "auto", "deepseek", "parsed", "hidden"] = "auto"
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    """Offered to the template, as `reasoning_effort` is."""
    modalities: list[Literal["text"]] | None = Field(None, min_length=1)
    """What the answer may be; it is text here."""
    include_reasoning: Flag = True
