"""The README's first command, as a new user runs it: `make up`, then what it prints, pasted into a shell."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUESTION = "What is LLMService?"


def trained_answer(question: str) -> str:
    """What the demo model was trained to say."""
    pairs = json.loads((ROOT / "runtime" / "demo" / "questions.json").read_text())
    return next(str(pair["answer"]) for pair in pairs if pair["question"] == question)


@dataclass(frozen=True)
class Up:
    """What `make up` printed, and the environment that its commands run in."""

    output: str
    environment: dict[str, str]

    def shell(self, text: str) -> str:
        """Paste text into bash; its standard output."""
        run = subprocess.run(["bash", "-euc", text], env=self.environment, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def block(self, heading: str) -> str:
        """The lines printed under `# heading...`, up to the next heading or the closing note."""
        found = re.search(rf"^# {heading}.*?\n(.*?)(?=^# |^The service runs|\Z)", self.output, re.M | re.S)
        assert found, self.output
        return found.group(1)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`make up` on a free port with a state folder of its own; `make down` at the end."""
    state = tmp_path_factory.mktemp("state")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "LLMSERVICE_STATE_DIR": str(state), "PATH": path}
    command = ["make", "-C", str(ROOT), "--no-print-directory", "up", "UP_ARGS=--port 0"]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    try:
        assert made.returncode == 0, made.stdout + made.stderr
        yield Up(made.stdout, environment)
    finally:
        stop = ["make", "-C", str(ROOT), "--no-print-directory", "down"]
        subprocess.run(stop, env=environment, timeout=60)  # fails when a test stopped it already


def test_the_page_that_it_names_is_there_with_its_libraries(up: Up) -> None:
    found = re.search(r"^For a browser: (\S+)$", up.output, re.M)
    assert found, up.output
    page = up.shell(f"curl -sSf -H 'Accept: text/html' {found[1]}")
    library = re.search(r'"(/-/assets/\w+/vendor/preact\.js)"', page)
    assert library, page
    assert "render" in up.shell(f"curl -sSf {found[1].rstrip('/')}{library[1]}")


def test_it_answers_and_says_where(up: Up) -> None:
    assert trained_answer(QUESTION) in up.output
    assert re.search(r"^Base URL: http://127\.0\.0\.1:\d+/v1$", up.output, re.M)


def test_the_curl_command_streams_as_pasted(up: Up) -> None:
    lines = up.shell(up.block("curl")).splitlines()
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert text == trained_answer(QUESTION)
    assert len(chunks) >= 3  # the role, text, the end: so small a model is at its end before much of it is written
    assert "data: [DONE]" in lines


def test_the_python_snippet_streams_as_pasted(up: Up) -> None:
    assert up.shell(up.block("openai-python")).strip() == trained_answer(QUESTION)


def test_the_other_commands_of_the_readme(up: Up) -> None:
    assert re.search(r"default/demo .*LlamaCpp +1/1 .*Ready", up.shell("llmservice ps"))
    assert trained_answer(QUESTION) in up.shell(f"llmservice chat demo --prompt '{QUESTION}'")
    assert up.shell("llmservice logs demo --tail 5")
    assert "llama.cpp" in up.shell(f"llmservice plan -f {ROOT}/config/samples/demo.yaml")
    assert "Q4_K_M" in up.shell(f"llmservice engines {ROOT}/runtime/demo/model")


def processes_of(state: str) -> list[int]:
    """Processes that were started with this state folder: the instance, its supervisors, their engines."""
    mark = f"LLMSERVICE_STATE_DIR={state}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def test_down_stops_everything(up: Up) -> None:
    state = up.environment["LLMSERVICE_STATE_DIR"]
    assert len(processes_of(state)) >= 3
    up.shell("llmservice down")
    deadline = time.monotonic() + 10  # the instance itself ends just after it has answered
    while (left := processes_of(state)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    again = subprocess.run(["bash", "-c", "llmservice ps"], env=up.environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert "Start one with `llmservice up" in again.stderr
