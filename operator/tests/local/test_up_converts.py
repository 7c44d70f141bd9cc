"""`llmservice up` with weights that are made smaller while they are loaded, on the engine that can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[3] / "runtime" / "demo" / "model"
MANIFEST = """
apiVersion: llmservice.dev/v1alpha1
kind: LLMService
metadata: {{name: demo}}
spec:
  model: {{uri: "file://{model}", include: ["*.safetensors", "*.json"]}}
  contextTokens: 512
  engine: {{loadQuantization: {to}}}
"""
Run = Callable[..., str]


@pytest.fixture
def llmservice(tmp_path: Path) -> Iterator[Run]:
    """llmservice(*args) -> its output, with a state and a cache of its own; stopped at the end."""
    folders = {f"LLMSERVICE_{name}_DIR": str(tmp_path / name.lower()) for name in ("STATE", "CACHE")}
    program = Path(sys.executable).with_name("llmservice")

    def run(*args: str) -> str:
        done = subprocess.run([program, *args], env=os.environ | folders, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    subprocess.run([program, "down", "--force"], env=os.environ | folders, capture_output=True)


@pytest.mark.engine
@pytest.mark.parametrize("to", ["BitsAndBytesInt8", "BitsAndBytesNF4"])
def test_up_serves_weights_that_it_makes_smaller(llmservice: Run, tmp_path: Path, to: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(MANIFEST.format(model=DEMO, to=to))
    said = llmservice("up", "-f", str(file), "--port", "0", "--detach", "--timeout", "600")
    assert f"made {to} while loading" in said
    assert "LLMService" in llmservice("chat", "demo", "--prompt", "What is LLMService?")
    deadline = time.monotonic() + 60
    while "load" not in (item := json.loads(llmservice("ps", "-o", "json"))["items"][0])["status"]:
        assert time.monotonic() < deadline, item["status"]  # it is asked for, some time after the replica is ready
        time.sleep(0.5)
    assert item["spec"]["engine"]["loadQuantization"] == to
    assert item["status"]["load"]["findings"] == []
