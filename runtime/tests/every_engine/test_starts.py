"""Replicas that can't start: a class, a sentence, a remedy and exit code 1, the same for every engine."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.engines import EngineType

from .api import CHAT, MESSAGES, Api
from .engines import files, settings
from .replica import LOAD_SECONDS, Replica

Start = Callable[..., Replica]


def _failed(replica: Replica) -> dict[str, Any]:
    """The record of a replica that ended."""
    assert replica.process.wait(LOAD_SECONDS) == 1, replica.log.read_text()[-4000:]
    record = replica.record
    assert record["message"] and record["remedy"] and len(json.dumps(record)) <= 4096, record
    assert not replica.everything(), "the engine is gone too"
    return record


def test_an_argument_that_there_is_not(engine: EngineType, start: Start) -> None:
    record = _failed(start(engine_args=(*settings(engine).engine_args, "--no-such-thing=1")))
    assert record["failure"] == "BadArgument", record
    assert "no-such-thing" in record["message"] and "engine.args" in record["message"] + record["remedy"]


def test_a_setting_that_can_not_be(start: Start) -> None:
    record = _failed(start(context_tokens=0))
    assert (record["failure"], "`context_tokens` is 0" in record["message"]) == ("BadArgument", True)


def test_a_port_that_is_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        record = _failed(start(port=port))
    assert record["failure"] == "PortInUse" and str(port) in record["message"], record


def test_a_model_that_is_damaged_in_the_middle(engine: EngineType, start: Start, tmp_path: Path) -> None:
    record = _failed(start(model_path=str(damaged(files(engine), tmp_path))))
    assert record["failure"] == "ModelDamaged", record


def damaged(model: Path, folder: Path) -> Path:
    """A copy of a model whose weights end early."""
    copy = folder / model.name
    if model.is_file():
        copy.write_bytes(model.read_bytes()[:100_000])
        return copy
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("*.gguf"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:4_000_000])
    return copy


def test_a_model_that_is_not_there(start: Start, tmp_path: Path) -> None:
    record = _failed(start(model_path=str(tmp_path / "nothing")))
    assert record["failure"] == "ModelNotFound", record


def test_an_engine_that_is_not_installed(engine: EngineType, start: Start, tmp_path: Path) -> None:
    record = _failed(start(environ={"LLMSERVICE_ENGINES_DIR": str(tmp_path)}))
    assert record["failure"] == "EngineNotInstalled"
    assert f"llmservice-runtime install {engine.folder}" in record["remedy"]


def test_a_model_that_completes_refuses_chat_wherever_it_is_started_and_dies_with_its_supervisor(
    start: Start, tmp_path: Path
) -> None:
    """Modules come from the engine's environment, never from the folder in which it happens to be started."""
    for module in ("llama_cpp", "vllm", "transformers", "torch", "json"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('not this one')")
    replica = start(task="Completion", cwd=tmp_path)
    replica.wait_ready()
    api = Api(replica.url)
    assert api.refused(CHAT, {"messages": MESSAGES})["code"] == "chat_not_supported"
    assert api.complete(max_tokens=2)["choices"][0]["text"]
    assert replica.everything()
    replica.stop(seconds=5)  # the supervisor is killed; nothing outlives it
