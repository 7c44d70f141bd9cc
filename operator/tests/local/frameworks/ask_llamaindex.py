"""LlamaIndex over OpenAI's routes; prints what it got, as JSON. `ask_llamaindex.py URL`, without /v1."""

from __future__ import annotations

import json
import sys
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

question = [ChatMessage(role="user", content="What is LLMService?")]


def model(name: str, **more: Any) -> OpenAILike:
    return OpenAILike(
        model=name, api_base=f"{sys.argv[1]}/v1", api_key="none", temperature=0, max_tokens=100, max_retries=0, **more
    )


def get_weather(city: str) -> str:
    """The weather in a city."""
    return "21 degrees"


chat = model("demo", is_chat_model=True, is_function_calling_model=True)
tool = FunctionTool.from_defaults(get_weather)
called = chat.chat_with_tools([tool], user_msg="What is the weather in Paris?", tool_required=True)
streamed = list(chat.stream_chat_with_tools([tool], user_msg="What is the weather in Paris?", tool_required=True))
found = {
    "chat": chat.chat(question).message.content,
    "streamed": "".join(piece.delta or "" for piece in chat.stream_chat(question)),
    "cold": model("cold", is_chat_model=True).chat(question).message.content,
    "completed": model("demo").complete("The early bird").text,  # its default: /v1/completions
    "call": [(each.tool_name, each.tool_kwargs) for each in chat.get_tool_calls_from_response(called)],
    "streamed call": [(each.tool_name, each.tool_kwargs) for each in chat.get_tool_calls_from_response(streamed[-1])],
}
print(json.dumps(found))
