"""LangChain over OpenAI's and Ollama's routes; prints what it got, as JSON. `ask_langchain.py URL`, without /v1."""

from __future__ import annotations

import json
import sys
from typing import Any

from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

root = sys.argv[1]
question = "What is LLMService?"
weather = "What is the weather in Paris?"
tool: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
place = {
    "title": "place",
    "description": "A place.",
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def openai(model: str, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=model, base_url=f"{root}/v1", api_key="none", temperature=0, max_tokens=100, max_retries=0, **more
    )


def streamed(chat: Any) -> list[Any]:
    return list(chat.stream(question))


plain, counted = streamed(openai("demo")), streamed(openai("demo", stream_usage=True))
ollama = ChatOllama(model="demo", base_url=root, temperature=0, num_predict=100)
lines = streamed(ollama)
found: dict[str, Any] = {
    "openai": openai("demo").invoke(question).content,
    "cold": openai("cold").invoke(question).content,
    "streamed": "".join(chunk.content for chunk in plain),
    "usage": [any(chunk.usage_metadata for chunk in chunks) for chunks in (plain, counted)],
    "finish": [chunk.response_metadata.get("finish_reason") for chunk in plain if chunk.response_metadata][-1:],
    "call": openai("demo").bind_tools([tool], tool_choice="any").invoke(weather).tool_calls,
    "held": openai("demo").with_structured_output(place, method="json_schema").invoke(weather),
    # Otherwise it counts tokens by tables that it fetches from the internet.
    "vectors": [
        len(each)
        for each in OpenAIEmbeddings(
            model="vectors", base_url=f"{root}/v1", api_key="none", check_embedding_ctx_length=False
        ).embed_documents(["a", "b"])
    ],
    "ollama": "".join(chunk.content for chunk in lines),
    "ollama usage": [chunk.usage_metadata for chunk in lines if chunk.usage_metadata][-1:],
    "ollama call": ollama.bind_tools([tool]).invoke(weather).tool_calls,
    "ollama held": ollama.with_structured_output(place, method="json_schema").invoke(weather),
    "ollama cold": ChatOllama(model="cold", base_url=root, temperature=0, num_predict=100).invoke(question).content,
    "ollama vectors": [len(each) for each in OllamaEmbeddings(model="vectors", base_url=root).embed_documents(["a"])],
}
print(json.dumps(found))
