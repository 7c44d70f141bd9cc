"""LangChain, LlamaIndex and LiteLLM as they are, in an environment of their own, and what Open WebUI asks for, against
the real gateway before real engines. L, I, W: numbers of the facts that they were read for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from machine_world import Here, until  # type: ignore[import-not-found]

pytestmark = pytest.mark.engine
ANSWER = "LLMService is a Kubernetes operator"
PYTHON = Path(sys.prefix) / "clients" / "bin" / "python"


@pytest.fixture
def root(zoo: Here) -> str:
    until(lambda: zoo.service("cold")["object"]["status"]["readyReplicas"] == 0)
    return str(zoo.snapshot()["url"].removesuffix("/v1"))


def asked(script: str, root: str) -> dict[str, Any]:
    """What a script of `frameworks/` got."""
    assert PYTHON.exists(), "make .venv/.clients installs them"
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
    done = subprocess.run(
        [PYTHON, Path(__file__).parent / "frameworks" / script, root],
        env={**os.environ, **quiet, "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_langchain(root: str) -> None:
    found = asked("ask_langchain.py", root)
    for name in ("openai", "cold", "streamed", "ollama", "ollama cold"):
        assert found[name].startswith(ANSWER), name
    assert found["usage"] == [False, True], "L1: with another base URL it has to be asked for"
    assert found["finish"] == ["stop"]  # L2
    for name in ("call", "ollama call"):
        (call,) = found[name]
        assert call["name"] == "get_weather" and "Paris" in call["args"]["city"]
    assert set(found["held"]) == set(found["ollama held"]) == {"city"}
    assert found["vectors"] == [384, 384] and found["ollama vectors"] == [384]
    assert found["ollama usage"][0]["output_tokens"] > 5


def test_llamaindex(root: str) -> None:
    found = asked("ask_llamaindex.py", root)
    for name in ("chat", "streamed", "cold"):
        assert found[name].startswith(ANSWER), name
    assert found["completed"]  # I2
    for name in ("call", "streamed call"):  # I1: it joins ids and names
        ((tool, arguments),) = found[name]
        assert tool == "get_weather" and "Paris" in arguments["city"]


def test_litellm(root: str) -> None:
    found = asked("ask_litellm.py", root)
    for name in ("openai", "cold", "streamed", "ollama", "ollama streamed"):
        assert found[name].startswith(ANSWER), name
    assert "options.num_ctx" in found["ollama context"]
    assert found["vectors"] == 384


def test_open_webui(root: str) -> None:
    """W1 to W3: it is half a gigabyte of packages, so its requests alone."""

    def got(path: str) -> Any:
        answer = requests.get(f"{root}{path}", timeout=10)
        assert answer.status_code == 200
        return answer.json()

    names = [model["id"] for model in got("/v1/models")["data"]]
    assert names and all(names) and not any("name" in model for model in got("/v1/models")["data"])
    title: Any = {"model": "default/demo", "stream": False, "max_completion_tokens": 20,
             "messages": [{"role": "user", "content": "Name this chat."}]}  # fmt: skip
    assert requests.post(f"{root}/v1/chat/completions", json=title, timeout=60).json()["choices"][0]["message"]
    assert requests.get(f"{root}/", timeout=10).text == "Ollama is running"
    assert tuple(map(int, got("/api/version")["version"].split("."))) >= (0, 1, 16)
    tags = got("/api/tags")["models"]
    assert {model["model"] for model in got("/api/ps")["models"]} <= {model["model"] for model in tags}
    body: Any = {"model": tags[1]["model"], "messages": [{"role": "user", "content": "What is LLMService?"}],
            "stream": True, "options": {"temperature": 0, "num_predict": 50}, "keep_alive": "5m"}  # fmt: skip
    with requests.post(f"{root}/api/chat", json=body, stream=True, timeout=60) as answer:
        lines = [json.loads(line) for line in answer.iter_lines() if line]
    assert "".join(line["message"]["content"] for line in lines).startswith(ANSWER) and lines[-1]["done"]
