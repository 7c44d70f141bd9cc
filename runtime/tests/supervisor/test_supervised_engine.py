"""The whole replica: `llmservice-runtime serve` with the real llama.cpp engine on the demo model."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MODEL = Path(__file__).parents[2] / "demo" / "model" / "demo-Q4_K_M.gguf"
pytestmark = pytest.mark.engine


GIB = 1 << 30


class Served:
    """One running replica."""

    def __init__(self, folder: Path, model: Path = MODEL, **settings: Any) -> None:
        self.state_file = folder / "replica.json"
        self.record_file = folder / "failure.json"
        self.log = folder / "log"
        body = {
            "engine": "LlamaCpp",
            "model_path": str(model),
            "model_name": "demo",
            "port": 0,
            "supervisor_port": 0,
            "context_tokens": 512,
            "threads": 1,
            "drain_seconds": 20,
            "failure_log": str(self.record_file),
            **settings,
        }
        (folder / "settings.json").write_text(json.dumps(body))
        command = [sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(folder / "settings.json")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, "--state-file", str(self.state_file)], stdout=log, stderr=log)

    @property
    def state(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.state_file.read_text()) if self.state_file.exists() else {}
        return body

    def wait_for(self, what: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def probe(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.state['supervisor_port']}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.state['supervisor_port']}/status", timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
        return body

    def complete(self, tokens: int) -> dict[str, Any]:
        with urllib.request.urlopen(self._request(tokens), timeout=60) as answer:
            result: dict[str, Any] = json.load(answer)
        return result

    def stream(self, tokens: int) -> Iterator[str]:
        """The lines of a streamed answer as they come."""
        with urllib.request.urlopen(self._request(tokens, stream=True), timeout=60) as answer:
            for line in answer:
                if line.strip():
                    yield line.decode().strip()

    def _request(self, tokens: int, **fields: Any) -> urllib.request.Request:
        body = {"model": "demo", "prompt": "What is", "max_tokens": tokens, "ignore_eos": True, **fields}
        url = f"http://127.0.0.1:{self.state['port']}/v1/completions"
        return urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})


def test_a_load_is_held_against_the_plan(tmp_path: Path) -> None:
    files: dict[str, Any] = {"planned_files": [MODEL.name], "planned_file_bytes": MODEL.stat().st_size - 1}
    line = {"name": "engine and its buffers", "part": "Engine", "where": "Host", "bytes": 1 << 20}
    served = Served(tmp_path, planned_memory=[line], **files)
    try:
        served.wait_for(lambda: bool(served.state.get("ready")))
        served.wait_for(lambda: served.status()["load"] is not None)
        load = served.status()["load"]
        assert set(load["phases"]) >= {"Starting", "Loading", "SelfTest"}
        assert 0 < load["seconds"] < 60
        assert 10 << 20 < load["measured"]["host"] < GIB
        assert load["measured"]["files"] == MODEL.stat().st_size
        assert load["tokens_per_second"] > 0
        (engine,) = load["memory"]
        assert engine["predicted"] == 1 << 20 and 10 << 20 < engine["measured"] < load["measured"]["host"]
        others, more = load["findings"]
        assert "they are others than those" in others and "of host memory for the model" in more
        assert "supervisor: The engine takes" in served.log.read_text()
    finally:
        served.process.kill()
        served.process.wait()
