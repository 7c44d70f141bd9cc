"""OpenAI's POST /v1/responses: from a request to one of chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmservice_gateway.dialects.dialect import Translation, text_of
from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, wrong
from llmservice_gateway.dialects.responses_items import turns
from llmservice_gateway.dialects.turns import schema_format, unknown_kind
from llmservice_runtime.wire.errors import bad_request, unsupported

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
STORED = "nothing is stored here; send the whole conversation as `input`."
OWN_TOOLS = "offer `function` tools that your own program runs"
LOGPROBS, ENCRYPTED = "message.output_text.logprobs", "reasoning.encrypted_content"
SAME: Mapping[str, type[Any]] = {
    "temperature": float,
    "top_p": float,
    "parallel_tool_calls": bool,
    "user": str,
    "safety_identifier": str,
    "metadata": dict,
    "service_tier": str,
    "prompt_cache_key": str,
    "prompt_cache_retention": str,
    "prompt_cache_options": dict,
}
"""Fields that chat has under the same name, no-ops included; engines know their ranges."""
INSTEAD = {
    "context_management": "send the items that the model is to see.",
    "conversation": STORED,
    "max_completion_tokens": "use `max_output_tokens`.",
    "max_tokens": "use `max_output_tokens`.",
    "messages": "use `input`.",
    "moderation": "this server moderates nothing; put a moderating model in front.",
    "n": "a response is one answer.",
    "previous_response_id": STORED,
    "prompt": "no prompts are kept here; send `instructions` and `input`.",
    "response_format": "use `text.format`.",
    "reasoning_effort": "use `reasoning.effort`.",
    "stop": "a response has no stop strings; use /v1/chat/completions.",
}
"""Fields of others: what to do in their place."""
ECHOED = ("instructions", "max_output_tokens", "metadata", "text", "reasoning", "tools", "tool_choice", "user")
ECHO_BYTES = 256 << 10
"""A response repeats what it was asked with up to so many bytes: a stream has it three times."""


def translate(given: Json) -> Translation:
    """A response, whole or streamed."""
    fields = Fields(given)
    body: Json = {}
    if (model := fields.one(str, "model")) is not None:
        body["model"] = model
    body["messages"] = _messages(fields)
    for name, kind in SAME.items():
        if (value := fields.one(kind, name)) is not None:
            body[name] = value
    body |= _answer(fields) | _tools(fields) | _reasoning(fields) | _text(fields)
    fields.refuse("store", STORED, but=False)
    fields.refuse("background", "a response is answered at once, or as a stream.", but=False)
    fields.refuse("truncation", "shorten the `input`; nothing of it is left out.", but="disabled")
    fields.one(int, "max_tool_calls")  # of tools that the server runs, and it has none
    fields.end(INSTEAD)
    return Translation(body, _echo(given), unbounded="max_tokens" in body)


def _messages(fields: Fields) -> list[Json]:
    instructions = fields.one(str, "instructions")
    before: list[Json] = [{"role": "system", "content": instructions}] if instructions else []
    given = fields.any("input")
    if given is None:
        raise bad_request("`input` is missing.", "input", "missing_required_parameter")
    if isinstance(given, str):
        return [*before, {"role": "user", "content": given}]
    if not isinstance(given, list):
        raise wrong("input", "a string or a list of items", given)
    if not given:
        raise bad_request("`input` must have an item at least.", "input")
    return before + turns(given)


def _answer(fields: Fields) -> Json:
    """How long it may be, and how it comes."""
    body: Json = {}
    if (most := fields.one(int, "max_output_tokens")) is not None:
        if most < 1:
            raise bad_request("`max_output_tokens` must be at least 1.", "max_output_tokens")
        body["max_tokens"] = most
    if (options := fields.object("stream_options")) is not None:
        options.refuse("include_obfuscation", "no padding is ever added.", but=False)
        options.end()
    if fields.one(bool, "stream"):
        body |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    include = fields.texts("include") or []
    for number, name in enumerate(include):
        if name not in (LOGPROBS, ENCRYPTED):
            raise unsupported(f"include.{number}", f"only {LOGPROBS} and {ENCRYPTED} are known here.")
    top = fields.one(int, "top_logprobs")
    if LOGPROBS in include:
        body |= {"logprobs": True, "top_logprobs": top or 0}
    elif top:
        raise bad_request(f"`top_logprobs` needs `include: [{LOGPROBS!r}]`.", "top_logprobs")
    return body


def _tools(fields: Fields) -> Json:
    tools = [_tool(tool) for tool in fields.objects("tools") or ()]
    body: Json = {"tools": tools} if tools else {}
    choice = fields.any("tool_choice")
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise wrong("tool_choice", "none, auto, required or an object", choice)
        body["tool_choice"] = choice
    elif choice is not None:
        body["tool_choice"] = _choice(Fields(choice, "tool_choice"))
    return body


def _tool(tool: Fields) -> Json:
    if (kind := tool.must(str, "type")) != "function":
        raise unknown_kind(tool.path, kind, OWN_TOOLS)
    function: Json = {"name": tool.must(str, "name")}
    if (description := tool.one(str, "description")) is not None:
        function["description"] = description
    if (parameters := tool.one(dict, "parameters")) is not None:
        function["parameters"] = parameters
    if (strict := tool.one(bool, "strict")) is not None:
        function["strict"] = strict
    tool.refuse("async", "a call's result is waited for.", but=False)
    tool.refuse("defer_loading", "all tools are in the prompt.", but=False)
    tool.refuse("allowed_callers", "only the model calls tools.", but=["direct"])
    tool.end({"output_schema": "say in `description` what comes back."})
    return {"type": "function", "function": function}


def _choice(choice: Fields) -> Json:
    kind = choice.must(str, "type")
    if kind == "function":
        return _named(choice)
    if kind != "allowed_tools":
        raise unknown_kind(choice.path, kind, OWN_TOOLS)
    allowed = {"mode": choice.must(str, "mode"), "tools": list[Json]()}
    for tool in choice.objects("tools") or ():
        if (named := tool.must(str, "type")) != "function":
            raise unknown_kind(tool.path, named, OWN_TOOLS)
        allowed["tools"].append(_named(tool))  # type: ignore[attr-defined]
    choice.end()
    return {"type": "allowed_tools", "allowed_tools": allowed}


def _named(tool: Fields) -> Json:
    name = tool.must(str, "name")
    tool.end()
    return {"type": "function", "function": {"name": name}}


def _reasoning(fields: Fields) -> Json:
    """`reasoning`. The thinking itself comes as content of its item: a summary would say less."""
    body: Json = {}
    if (reasoning := fields.object("reasoning")) is None:
        return body
    if effort := reasoning.choice("effort", EFFORTS):
        body["reasoning_effort"] = effort
    for name in ("summary", "generate_summary"):
        reasoning.choice(name, ("auto", "concise", "detailed"))
    reasoning.refuse("context", "the items of `input` are what the model sees.", but="auto")
    reasoning.refuse("mode", "use `reasoning.effort`.", but="standard")
    reasoning.end()
    return body


def _text(fields: Fields) -> Json:
    body: Json = {}
    if (text := fields.object("text")) is None:
        return body
    if verbosity := text.choice("verbosity", ("low", "medium", "high")):
        body["verbosity"] = verbosity
    if (held := text.object("format")) is not None:
        kind = held.must(str, "type")
        if kind == "json_schema":
            name, schema = held.must(str, "name"), held.must(dict, "schema")
            body["response_format"] = schema_format(name, schema, held.one(bool, "strict"))
            held.no_op("description")
        elif kind == "json_object":
            body["response_format"] = {"type": kind}
        elif kind != "text":
            raise wrong(held.at("type"), "text, json_object or json_schema", kind)
        held.end()
    text.end()
    return body


def _echo(given: Json) -> Json:
    """What a response repeats of its request."""
    echo = {name: given[name] for name in ECHOED if given.get(name) is not None}
    numbers = {name: given[name] for name in ("temperature", "top_p") if given.get(name) is not None}
    if given.get("parallel_tool_calls") is not None:
        numbers["parallel_tool_calls"] = given["parallel_tool_calls"]
    if _size(echo) > ECHO_BYTES:
        echo = {name: value for name, value in echo.items() if isinstance(value, int)}
    return echo | numbers


def _size(value: Any) -> int:
    return len(text_of(value))
