"""Anthropic's POST /v1/messages and /v1/messages/count_tokens: from a request to one of chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmservice_gateway.dialects.dialect import Translation
from llmservice_gateway.dialects.messages_turns import system, turns
from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, wrong
from llmservice_gateway.dialects.turns import schema_format, unknown_kind
from llmservice_runtime.wire.errors import bad_request, unsupported

EFFORTS = ("low", "medium", "high", "xhigh", "max")
SAME: Mapping[str, type[Any]] = {"temperature": float, "top_p": float, "top_k": int}
"""Fields that chat has under the same name; engines know their ranges."""
INSTEAD = {
    "container": "nothing runs code here; offer `tools` that your own program runs.",
    "context_management": "send the turns that the model is to see.",
    "diagnostics": "the replica's metrics tell what its prefix cache holds.",
    "inference_geo": "the service runs where its cluster is.",
    "max_completion_tokens": "use `max_tokens`.",
    "mcp_servers": "offer `tools` that your own program runs.",
    "n": "an answer has one message.",
    "output_format": "use `output_config.format`.",
    "stop": "use `stop_sequences`.",
}
"""Fields of others: what to do in their place."""


def translate(given: Json) -> Translation:
    """A message, whole or streamed."""
    fields = Fields(given)
    body = _shared(fields)
    if fields.must(int, "max_tokens") < 1:
        raise bad_request("`max_tokens` must be at least 1.", "max_tokens")
    body["max_tokens"] = given["max_tokens"]
    if fields.one(bool, "stream"):
        # Counts come with every chunk: the first event tells those of the prompt, and a client may leave at any time.
        body |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    for name, kind in SAME.items():
        if (value := fields.one(kind, name)) is not None:
            body[name] = value
    if stops := fields.texts("stop_sequences"):
        body["stop"] = stops
    if (metadata := fields.object("metadata")) is not None:
        if user := metadata.one(str, "user_id"):
            body["safety_identifier"] = user
        metadata.end()
    fields.choice("service_tier", ("auto", "standard_only"))
    fields.end(INSTEAD)
    return Translation(body, unbounded=True)


def count(given: Json) -> Translation:
    """How many tokens a message's prompt has: what /tokenize is asked for."""
    fields = Fields(given)
    body = _shared(fields)
    fields.end({**INSTEAD, "max_tokens": "only what is in the prompt counts.", "stream": "it is one number."})
    choice = body.get("tool_choice")
    named = choice["function"]["name"] if isinstance(choice, dict) else None
    tools = [one for one in body.get("tools", ()) if choice != "none" and named in (None, one["function"]["name"])]
    same = ("model", "messages", "continue_final_message")
    asked = {name: body[name] for name in same if name in body}
    options: Json = {}
    if "thinking" in body:
        options["enable_thinking"] = options["thinking"] = body["thinking"]["type"] != "disabled"
    if "reasoning_effort" in body:
        options = {"enable_thinking": True, "thinking": True, **options, "reasoning_effort": body["reasoning_effort"]}
    return Translation(
        asked | ({"tools": tools} if tools else {}) | ({"chat_template_kwargs": options} if options else {})
    )


def _shared(fields: Fields) -> Json:
    """What a message and its count both have."""
    body: Json = {}
    if (model := fields.one(str, "model")) is not None:
        body["model"] = model
    messages = system(fields) + turns(fields.must(list, "messages"))
    body["messages"] = messages
    if messages[-1]["role"] == "assistant":
        body["continue_final_message"] = True
    body |= _tools(fields) | _thinking(fields) | _output(fields)
    fields.no_op("cache_control")
    fields.refuse("speed", "every request is computed as fast as the replica can.", but="standard")
    return body


def _tools(fields: Fields) -> Json:
    tools = [_tool(tool) for tool in fields.objects("tools") or ()]
    body: Json = {"tools": tools} if tools else {}
    if (choice := fields.object("tool_choice")) is None:
        return body
    kind = choice.must(str, "type")
    if kind not in ("auto", "any", "tool", "none"):
        raise wrong(choice.at("type"), "auto, any, tool or none", kind)
    if kind == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.must(str, "name")}}
    else:
        body["tool_choice"] = "required" if kind == "any" else kind
    if choice.one(bool, "disable_parallel_tool_use"):
        body["parallel_tool_calls"] = False
    choice.end()
    return body


def _tool(tool: Fields) -> Json:
    kind = tool.one(str, "type")
    if kind not in (None, "custom"):
        raise unknown_kind(tool.path, kind, "offer tools that your own program runs (`input_schema`)")
    function: Json = {"name": tool.must(str, "name")}
    if (description := tool.one(str, "description")) is not None:
        function["description"] = description
    function["parameters"] = tool.must(dict, "input_schema")
    if (strict := tool.one(bool, "strict")) is not None:
        function["strict"] = strict
    tool.no_op("cache_control", "eager_input_streaming")
    tool.refuse("defer_loading", "all tools are in the prompt.", but=False)
    tool.refuse("allowed_callers", "only the model calls tools.", but=["direct"])
    tool.end({"input_examples": "put examples into `description`."})
    return {"type": "function", "function": function}


def _thinking(fields: Fields) -> Json:
    """`thinking`. How long a model thinks is its own: `budget_tokens` can't be more than `max_tokens` anyway."""
    if (thinking := fields.object("thinking")) is None:
        return {}
    kind = thinking.must(str, "type")
    if kind == "between_tools":
        raise unsupported(thinking.at("type"), "use `adaptive`, `enabled` or `disabled`.")
    if kind not in ("adaptive", "enabled", "disabled"):
        raise wrong(thinking.at("type"), "adaptive, enabled or disabled", kind)
    body: Json = {"thinking": {"type": "auto" if kind == "adaptive" else kind}}
    if kind == "enabled":
        thinking.one(int, "budget_tokens")
    if kind != "disabled" and thinking.choice("display", ("summarized", "omitted")) == "omitted":
        body["include_reasoning"] = False
    thinking.end()
    return body


def _output(fields: Fields) -> Json:
    body: Json = {}
    if (config := fields.object("output_config")) is None:
        return body
    if effort := config.choice("effort", EFFORTS):
        body["reasoning_effort"] = effort
    if (held := config.object("format")) is not None:
        if (kind := held.must(str, "type")) != "json_schema":
            raise wrong(held.at("type"), "json_schema", kind)
        body["response_format"] = schema_format("answer", held.must(dict, "schema"))
        held.end()
    config.end()
    return body
