"""Services on this machine, as `llmservice up` serves them, for a browser to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmservice_cli.local.client import Control

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"
LLMSERVICE = Path(sys.executable).parent / "llmservice"


def manifest(name: str, *, uri: str = f"file://{DEMO}", **spec: Any) -> str:
    """A service of the demo model, on llama.cpp."""
    body = {"model": {"uri": uri}, "engine": {"type": "LlamaCpp"}, **spec}
    kind = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService"}
    return json.dumps({**kind, "metadata": {"name": name}, "spec": body})


@contextmanager
def served(folder: Path, *manifests: str) -> Iterator[str]:
    """They are served; the URL of the console."""
    state, runtime = folder / "state", folder / "runtime"
    runtime.mkdir()
    environment = {**os.environ, "LLMSERVICE_STATE_DIR": str(state), "XDG_RUNTIME_DIR": str(runtime)}
    file = folder / "services.yaml"
    file.write_text("\n---\n".join(manifests))

    def run(*words: str) -> None:
        done = subprocess.run(
            [LLMSERVICE, *words], env=environment, cwd=folder, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run("up", "-f", str(file), "--port", "0", "--detach", "--timeout", "180")
        url: str = Control(state).snapshot()["url"]
        yield url.removesuffix("v1")
    finally:
        run("down", "--force")


def trained_answer(question: str) -> str:
    """What the demo model was trained to say."""
    pairs = json.loads((ROOT / "runtime" / "demo" / "questions.json").read_text())
    return next(str(pair["answer"]) for pair in pairs if pair["question"] == question)
