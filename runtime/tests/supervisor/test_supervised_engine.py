"""The whole replica: `llmservice-runtime serve` with the real llama.cpp engine on the demo model."""

from __future__ import annotations

import json
import os
import signal
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

    def wait_for(self, what: Callable[[], bool], seconds: float = 30.0) -> None:
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


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def make(**options: Any) -> Served:
        made.append(Served(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.wait()


def test_a_load_is_held_against_the_plan(tmp_path: Path) -> None:
    files: dict[str, Any] = {"planned_files": [MODEL.name], "planned_file_bytes": MODEL.stat().st_size - 1}
    served = Served(tmp_path, planned_host_bytes=1 << 20, **files)
    try:
        served.wait_for(lambda: bool(served.state.get("ready")))
        served.wait_for(lambda: served.status()["load"] is not None)
        load = served.status()["load"]
        assert set(load["phases"]) >= {"Starting", "Loading", "SelfTest"}
        assert 0 < load["seconds"] < 60
        assert 10 << 20 < load["measured"]["host"] < GIB
        assert load["measured"]["files"] == MODEL.stat().st_size
        assert load["tokens_per_second"] > 0
        others, more = load["findings"]
        assert "they are others than those" in others and "of host memory for the model" in more
        assert "supervisor: The engine took" in served.log.read_text()
    finally:
        served.process.kill()
        served.process.wait()


def test_a_request_in_flight_finishes_while_the_replica_drains(served: Callable[..., Served]) -> None:
    one = served()
    one.wait_for(lambda: bool(one.state.get("ready")))
    assert one.probe("/livez") == one.probe("/readyz") == one.probe("/startupz") == 200
    events = one.stream(400)
    first = next(events)
    one.process.send_signal(signal.SIGTERM)
    rest = list(events)
    assert first.startswith("data: {") and len(rest) > 100
    assert rest[-1] == "data: [DONE]" and not any('"error"' in event for event in rest)
    assert one.process.wait(20) == 0


def test_a_stopped_real_engine_fails_liveness_after_it_served(served: Callable[..., Served]) -> None:
    one = served(progress_seconds=1.5)
    one.wait_for(lambda: bool(one.state.get("ready")))
    assert one.complete(5)["usage"]["completion_tokens"] == 5
    time.sleep(2.0)  # longer than the bound: an idle engine stays live
    assert one.probe("/livez") == 200
    os.kill(one.state["engine_pid"], signal.SIGSTOP)
    one.wait_for(lambda: one.probe("/livez") == 503, 5)
    assert json.loads(one.record_file.read_text())["failure"] == "NoProgress"


def test_modules_do_not_come_from_the_folder_it_is_started_in(
    served: Callable[..., Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    one = served()
    one.wait_for(lambda: bool(one.state.get("ready")))
    assert one.complete(5)["usage"]["completion_tokens"] == 5


def test_a_damaged_model_is_a_sentence_in_the_record(served: Callable[..., Served], tmp_path: Path) -> None:
    damaged = tmp_path / "cut.gguf"
    damaged.write_bytes(MODEL.read_bytes()[:100_000])
    one = served(model=damaged)
    assert one.process.wait(30) == 1
    record = json.loads(one.record_file.read_text())
    assert record["message"] and record["remedy"] and record["failure"] != "Crashed"
    assert "Traceback" not in one.log.read_text()
