"""One LangChain runnable over a model and its adapters, by `model` alone; prints what it got, as JSON.
`ask_langchain_adapters.py URL`, without /v1."""

from __future__ import annotations

import json
import sys

from langchain_core.runnables import ConfigurableField
from langchain_openai import ChatOpenAI

root = sys.argv[1]
question = "What is the capital of Finland?"
names = ["demo", "demo:polite", "demo:court"]
chat = ChatOpenAI(
    model=names[0], base_url=f"{root}/v1", api_key="none", temperature=0, max_tokens=40, max_retries=0
).configurable_fields(model_name=ConfigurableField("model"))
of = {name: chat.with_config(configurable={"model": name}) for name in names}

together = chat.batch([question] * 6, [{"configurable": {"model": name}} for name in names * 2])
found = {
    "invoked": [one.invoke(question).content for one in of.values()],
    "batched": [answer.content for answer in together],
    "streamed": ["".join(str(chunk.content) for chunk in one.stream(question)) for one in of.values()],
}
print(json.dumps(found))
