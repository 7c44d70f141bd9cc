"""What a failure record says to do, done: the replica gets ready. docs/remedies.md lists these."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

MODEL = Path(__file__).parents[2] / "demo/model/demo-Q4_K_M.gguf"
pytestmark = pytest.mark.engine


class Kitchen:
    """Replicas with the real engine, one after the other, each with other settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tries = 0

    def record(self, *limits: str, **settings: Any) -> dict[str, Any]:
        """The failure record of a replica that does not get ready."""
        body: dict[str, Any] = self._run(*limits, **settings)
        assert "ready" not in body, body
        return body

    def ready(self, *limits: str, **settings: Any) -> None:
        """A replica with these settings gets ready."""
        body = self._run(*limits, **settings)
        assert body == {"ready": True}, body

    def _run(self, *limits: str, **settings: Any) -> dict[str, Any]:
        self.tries += 1
        here = self.folder / str(self.tries)
        here.mkdir()
        state, record, file = here / "state.json", here / "failure.json", here / "settings.json"
        body = {"engine": "LlamaCpp", "model_path": str(MODEL), "model_name": "demo", "port": 0, "supervisor_port": 0}
        body |= {"context_tokens": 512, "threads": 1, "drain_seconds": 0, "failure_log": str(record)}
        file.write_text(json.dumps(body | settings))
        command = [*limits, sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(file)]
        with (here / "log").open("wb") as log:
            process = subprocess.Popen([*command, "--state-file", str(state)], stdout=log, stderr=log)
        try:
            while True:
                if state.exists() and json.loads(state.read_text()).get("ready"):
                    return {"ready": True}
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
                assert record.exists(), (here / "log").read_text()
                found: dict[str, Any] = json.loads(record.read_text())
                return found
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_a_port_that_is_taken_is_given_up_or_another_chosen(kitchen: Kitchen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = kitchen.record(port=port)
        assert found["failure"] == "PortInUse"
        assert "choose another (0 = any free one)" in found["remedy"]
        kitchen.ready(port=0)
    kitchen.ready(port=port)


def test_an_argument_is_corrected(kitchen: Kitchen) -> None:
    found = kitchen.record(engine_args=["--no-such-thing=1"])
    assert found["failure"] == "BadArgument"
    assert "engine.args" in found["message"] + found["remedy"]
    kitchen.ready(engine_args=["--kv-type=q8_0"])


def test_a_damaged_copy_is_replaced_by_a_whole_one(kitchen: Kitchen, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(MODEL.read_bytes()[:100_000])
    found = kitchen.record(model_path=str(copy))
    assert found["failure"] == "ModelDamaged"
    shutil.copy(MODEL, copy)
    kitchen.ready(model_path=str(copy))


def test_a_load_that_took_too_long_is_given_more_time(kitchen: Kitchen, tmp_path: Path) -> None:
    """An engine that waits for its disk: for ever, then longer than was too long, by one second."""
    disk, bound = tmp_path / "disk", 1
    os.mkfifo(disk)
    (tmp_path / "sitecustomize.py").write_text(f"open({str(disk)!r}).close()")
    slow = {"engine_env": {"PYTHONPATH": str(tmp_path)}}
    found = kitchen.record(load_seconds=bound, **slow)
    assert found["failure"] == "LoadTimeout"
    assert "Give it more time (engine.loadSeconds)" in found["remedy"]
    writer = Timer(bound + 1, lambda: disk.open("w").close())
    writer.daemon = True  # it waits for the engine to read
    writer.start()
    kitchen.ready(load_seconds=600, **slow)


def test_a_context_for_which_there_is_no_memory_is_shortened(kitchen: Kitchen) -> None:
    """The cache would need 760 GiB; the bound of the address space keeps it from being tried in earnest."""
    bound = ("prlimit", f"--as={3 << 30}")
    found = kitchen.record(*bound, context_tokens=400_000_000, max_sequences=1)
    assert found["failure"] == "OutOfMemory", found
    assert "lower contextTokens" in found["remedy"]
    kitchen.ready(*bound, context_tokens=512, max_sequences=1)
