"""The engine process on a real GGUF, asked by real clients: openai-python, and a socket for the bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from protocol_checks import CHECKS, Served  # type: ignore[import-not-found]

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.report import LIFELINE_FD_ENV, REPORT_FD_ENV
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.install.environment import engines_dir

PYTHON = engines_dir() / "llamacpp" / "bin" / "python"
pytestmark = pytest.mark.engine

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Running:
    """An engine process that is ready."""

    def __init__(self, folder: Path, template: str, **fields: Any) -> None:
        model, settings = folder / "tiny.gguf", folder / "settings.json"
        script = Path(__file__).with_name("tiny_model.py")
        (folder / "template.jinja").write_text(template)
        subprocess.run([sys.executable, script, model, folder / "template.jinja"], check=True)
        values = {
            "engine": EngineType.LLAMA_CPP,
            "model_path": str(model),
            "model_name": "tiny",
            "port": 0,
            "threads": 1,
            **fields,
        }
        settings.write_text(RuntimeSettings(**values).to_json())
        read, report = os.pipe()
        lifeline, self._life = os.pipe()
        self.child = subprocess.Popen(
            [PYTHON, "-m", "llmservice_runtime.engines.llamacpp.serve", "--settings", settings],
            pass_fds=(report, lifeline),
            env={**os.environ, REPORT_FD_ENV: str(report), LIFELINE_FD_ENV: str(lifeline)},
        )
        os.close(report)
        os.close(lifeline)
        self._reports = os.fdopen(read)
        ready = next(body for body in map(json.loads, self._reports) if body["kind"] in ("ready", "failure"))
        assert ready["kind"] == "ready", ready
        self.url = f"http://127.0.0.1:{ready['port']}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        code = self.child.wait(30)
        os.close(self._life)
        self._reports.close()
        return code


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, templates: dict[str, str]) -> Iterator[Running]:

    running = Running(
        tmp_path_factory.mktemp("tiny"), templates["hermes"], context_tokens=1024, max_sequences=4, drain_seconds=1
    )
    yield running
    assert running.stop() == 0


@pytest.fixture
def client(engine: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=engine.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_serves_the_protocol(engine: Running, check: Callable[[Served], None]) -> None:
    check(Served(engine.url, "tiny", 1024))


def test_tool_calls_are_valid_whatever_the_model(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": "tiny", "messages": CHAT["messages"], "tools": [TOOL], "max_tokens": 300}
    whole = client.chat.completions.create(**fields, tool_choice="required", parallel_tool_calls=False)
    (call,) = whole.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    named: Any = {"type": "function", "function": {"name": "weather"}}
    arguments = ""
    for chunk in client.chat.completions.create(**fields, tool_choice=named, parallel_tool_calls=False, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            arguments += delta.function.arguments or "" if delta.function else ""
    assert json.loads(arguments)["city"] in ("Rome", "Oslo")
