"""What only vLLM has: plug-ins of ours in its processes, and processes below processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from every_engine.engines import settings  # type: ignore[import-not-found]
from every_engine.replica import LOAD_SECONDS, Replica, is_alive, title  # type: ignore[import-not-found]

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.vllm.plugins import API, PROCESSES

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_installed")]

GONE_SECONDS = 5
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ImportError("cannot import name 'x' from 'y'\\nand more")

sys.meta_path.insert(0, Blocked())
"""
"""A sitecustomize.py: what a plug-in imports has another version."""

Start = Callable[..., Replica]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(**settings) -> a replica."""
    made: list[Replica] = []

    def run(**changes: Any) -> Replica:
        made.append(Replica(tmp_path / str(len(made)), EngineType.VLLM, **changes))
        return made[-1]

    yield run
    for one in made:
        one.stop()


@pytest.mark.parametrize(
    ("plugin", "module"),
    [
        (API, "llmservice_runtime.engines.vllm.serve.life"),
        (PROCESSES, "llmservice_runtime.engines.vllm.serve.processes"),
    ],
)
def test_a_plug_in_that_can_not_be_imported_fails_the_load_at_once(
    start: Start, tmp_path: Path, plugin: str, module: str
) -> None:
    """vLLM would log it, serve without it, and the load would wait for its budget."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.format(module=module))
    replica = start(engine_env={"PYTHONPATH": str(tmp_path)}, load_seconds=int(2 * LOAD_SECONDS))
    assert replica.process.wait(LOAD_SECONDS) == 1, replica.log.read_text()[-4000:]
    record = replica.record
    assert record["failure"] == "EngineNotInstalled" and record["phase"] == "Starting", record
    said = f"plug-in {plugin} failed in vLLM: ImportError: cannot import name 'x' from 'y'."
    assert said in record["message"] and "--rebuild" in record["remedy"]


def test_who_is_killed_leaves_no_engine_process(start: Start) -> None:
    """The engine core, the API server; and the next one is told to stop while it loads. Supervisors are killed
    elsewhere."""
    replica = start(restart=True)
    for killed, seconds in (("EngineCore", 60), ("main serve", GONE_SECONDS)):
        replica.wait_ready()
        assert {"Starting", "Loading", "Warming", "SelfTest"} <= set(replica.status()["load_phases"])
        processes = replica.everything()
        (victim,) = (pid for pid in processes if killed in title(pid))
        os.kill(victim, signal.SIGKILL)
        replica.wait_for(lambda left=processes: not any(map(is_alive, left)), seconds)
        replica.wait_for(lambda: not replica.state["ready"])
        assert replica.record["failure"] == "Crashed"
        record = replica.record
        assert "killed from outside (SIGKILL)" in record["message"], "the core and the server alike"
        assert record["remedy"].startswith("Look for who killed it")
    replica.wait_for(lambda: any("EngineCore" in title(pid) for pid in replica.everything()), LOAD_SECONDS)
    processes = replica.everything()
    replica.process.send_signal(signal.SIGTERM)
    assert replica.process.wait(60) == 0 and not any(map(is_alive, processes))


def test_a_supervisor_that_is_killed_while_workers_still_import_leaves_none(start: Start) -> None:
    """A worker imports for half a minute before it comes to plug-ins of ours."""
    replica = start(engine_args=(*settings(EngineType.VLLM).engine_args, "--distributed-executor-backend=mp"))

    def worker_began() -> bool:
        begun = [pid for pid in replica.everything() if "EngineCore" in title(pid) or "spawn_main" in title(pid)]
        return len(begun) > 1

    replica.wait_for(worker_began, LOAD_SECONDS)
    processes = replica.everything()
    replica.process.kill()
    replica.process.wait()
    end = time.monotonic() + GONE_SECONDS
    while left := [title(pid) for pid in processes if is_alive(pid)]:
        assert time.monotonic() < end, left
        time.sleep(0.05)
