"""Runs real supervisors over scripted engines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("scripted_engine.py")

RUN = """
import json, sys
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.serve import options_for, serve
spec = json.loads(sys.argv[1])
settings = RuntimeSettings.from_json(json.dumps(spec["settings"]))
options = options_for(settings, spec["command"], restart=spec["restart"], state_file=spec["state_file"])
sys.exit(serve(options))
"""


class Replica:
    """A supervisor process over one scripted engine."""

    def __init__(
        self, folder: Path, *command: str, restart: bool = False, output: int | None = None, **settings: Any
    ) -> None:
        """`output`: where both programs write; a file of the replica's own otherwise."""
        self.state_file = folder / "replica.json"
        self.record_file = folder / "failure.json"
        body = {
            "engine": "LlamaCpp",
            "model_path": "/none/model.gguf",
            "model_name": "apps/demo",
            "supervisor_port": 0,
            "port": 0,
            "drain_seconds": 5,
            "failure_log": str(self.record_file),
            **settings,
        }
        spec = {
            "settings": body,
            "command": [sys.executable, str(SCRIPT), *command],
            "restart": restart,
            "state_file": str(self.state_file),
        }
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, json.dumps(spec)],
                stdout=log if output is None else output,
                stderr=log if output is None else output,
                stdin=subprocess.DEVNULL,
            )

    @property
    def state(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.state_file.read_text()) if self.state_file.exists() else {}
        return body

    @property
    def record(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.record_file.read_text())
        return body

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.state['supervisor_port']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.get("/status")[1])
        return body

    def wait_for(self, what: Callable[[], bool], seconds: float = 60.0) -> None:
        until(what, seconds, lambda: self.log.read_text())

    def wait_ready(self) -> None:
        self.wait_for(lambda: bool(self.state.get("ready")))


def until(what: Callable[[], bool], seconds: float = 60.0, why: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"did not happen in {seconds} s\n{why()}"
        time.sleep(0.02)


def _dead(pid: int) -> bool:
    return not alive(pid)


def alive(pid: int) -> bool:
    """Running, not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def make(*command: str, **settings: Any) -> Replica:
        made.append(Replica(tmp_path, *command, **settings))
        return made[-1]

    yield make
    for item in made:
        engine = item.state.get("engine_pid")
        item.process.kill()
        item.process.wait()
        if engine:
            until(partial(_dead, engine))
    assert "Traceback" not in "".join(item.log.read_text() for item in made), made[0].log.read_text()
