"""From a manifest to streamed tokens of the real engine, with the clients people use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from machine_world import Here  # type: ignore[import-not-found]
from openai import OpenAI

pytestmark = pytest.mark.engine
QUESTION = "What is LLMService?"
ANSWER = "LLMService is a Kubernetes operator"


def test_chat_streams_the_answer_the_model_learned(demo: Here) -> None:
    assert demo.run("chat", "demo", "--prompt", QUESTION).startswith(ANSWER)


def test_openai_python_streams(demo: Here) -> None:
    with OpenAI(base_url=demo.snapshot()["url"], api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["default/demo"]
        stream = client.chat.completions.create(
            model="demo", temperature=0, stream=True, messages=[{"role": "user", "content": QUESTION}]
        )
        pieces = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
    assert len(pieces) > 5 and "".join(pieces).startswith(ANSWER)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_the_usage_of_every_stream_is_counted_and_told_to_who_asks(demo: Here, options: dict[str, Any]) -> None:
    url = demo.snapshot()["url"]

    def counted() -> int:
        """Completion tokens, as the gateway's metrics have them."""
        with urllib.request.urlopen(f"{url.removesuffix('/v1')}/metrics") as answer:
            text = answer.read().decode()
        return sum(int(float(value)) for value in re.findall(r'_tokens_total\{kind="completion".*\} (\S+)', text))

    before = counted()
    with OpenAI(base_url=url, api_key="none") as client:
        chunks = list(
            client.completions.create(model="demo", prompt="LLM", max_tokens=7, stream=True, temperature=0, **options)
        )
    told = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(told) == len([chunk for chunk in chunks if not chunk.choices]) == len(options)
    spent = told[0].completion_tokens if told else 7
    for _ in range(500):
        if counted() > before:
            break
        time.sleep(0.02)
    assert 0 < counted() - before <= spent


def test_the_snippets_work_as_pasted(demo: Here) -> None:
    _, curl, python = demo.run("ps", "--snippets", "demo").split("# ", 2)
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def pasted(snippet: str) -> str:
        text = snippet.partition("\n")[2]
        shell = subprocess.run(["bash", "-c", text], env=path, capture_output=True, text=True, timeout=30, check=True)
        return shell.stdout

    streamed = pasted(curl)
    assert streamed.startswith("data: ") and streamed.endswith("data: [DONE]\n\n")
    assert pasted(python).startswith(ANSWER)


def test_a_base_url_per_service_and_unprefixed_routes(demo: Here) -> None:
    url = demo.snapshot()["url"].removesuffix("/v1")
    with OpenAI(base_url=f"{url}/default/demo/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="default/demo", temperature=0, messages=[{"role": "user", "content": QUESTION}]
        )
        assert (answer.choices[0].message.content or "").startswith(ANSWER)
    with OpenAI(base_url=url, api_key="none") as client:
        assert client.completions.create(model="demo", prompt="LLM", max_tokens=4).usage is not None
        counted = client.post("/tokenize", body={"model": "demo", "prompt": "hello"}, cast_to=object)
        assert isinstance(counted, dict) and counted["count"] == len(counted["tokens"])
