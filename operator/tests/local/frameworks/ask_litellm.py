"""LiteLLM over OpenAI's and Ollama's routes; prints what it got, as JSON. `ask_litellm.py URL`, without /v1."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm

root = sys.argv[1]
question = [{"role": "user", "content": "What is LLMService?"}]


def ask(model: str, base: str, **more: Any) -> Any:
    asked = {"messages": question, "api_key": "none", "temperature": 0, "max_tokens": 100, "max_retries": 0, **more}
    return litellm.completion(model=model, api_base=base, **asked)


def text(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def refusal(**more: Any) -> str:
    try:
        ask("ollama_chat/demo", root, **more)
    except Exception as error:
        return str(error)
    return ""


found = {
    "openai": ask("openai/demo", f"{root}/v1").choices[0].message.content,
    "cold": ask("openai/cold", f"{root}/v1").choices[0].message.content,
    "streamed": text(ask("openai/demo", f"{root}/v1", stream=True)),
    "ollama": ask("ollama_chat/demo", root).choices[0].message.content,
    "ollama streamed": text(ask("ollama_chat/demo", root, stream=True)),
    "ollama context": refusal(num_ctx=1_000_000),
    "vectors": len(
        litellm.embedding("openai/vectors", ["a"], api_base=f"{root}/v1", api_key="none").data[0]["embedding"]
    ),
}
print(json.dumps(found))
