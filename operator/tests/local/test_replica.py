"""One replica's life, over a real supervisor: whatever goes wrong beside it, it is followed or it is ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest
from machine_world import fake_engines  # type: ignore[import-not-found]

from llmservice_cli.local.load_times import LoadTimes
from llmservice_cli.local.replica import LocalReplica
from llmservice_cli.local.room import Room
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings


async def test_a_failure_of_whoever_follows_leaves_no_supervisor_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(fake_engines(tmp_path / "engines")))
    (tmp_path / "m.gguf").touch()
    settings = RuntimeSettings(EngineType.LLAMA_CPP, str(tmp_path / "m.gguf"), "apps/demo", drain_seconds=5)
    pids: list[int] = []
    again = asyncio.Event()

    def changed() -> None:
        if not replica.facts.ready:
            return
        pids.append(replica.facts.pid)
        if len(pids) == 1:
            raise OSError(28, "No space left on device")
        again.set()

    async with aiohttp.ClientSession() as session:
        replica = LocalReplica(
            ReplicaFacts("apps/demo-1", 0), settings, tmp_path / "run", tmp_path / "log", session, changed,
            lambda: Room(tmp_path / "room").claim("apps/demo", settings.model_path, 1), LoadTimes(tmp_path),
        )  # fmt: skip
        await asyncio.wait_for(again.wait(), 30)
        assert pids[0] != pids[1] and replica.facts.restarts == 1
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
        await replica.stop(force=False)
    assert not list((tmp_path / "room").glob("*.claim"))
