"""One replica's life, over a real supervisor: whatever goes wrong beside it, it is followed or it is ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest
from machine_world import fake_engines  # type: ignore[import-not-found]

from llmservice_cli.local.holds import Need
from llmservice_cli.local.line import Line
from llmservice_cli.local.load_times import LoadTimes
from llmservice_cli.local.loading import LoadQueue
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
            Line(lambda _: Room(tmp_path / "room").claim("apps/demo", Need(settings.model_path, 1))), LoadQueue(2),
            LoadTimes(tmp_path),
        )  # fmt: skip
        await asyncio.wait_for(again.wait(), 30)
        assert pids[0] != pids[1] and replica.facts.restarts == 1
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
        await replica.stop(force=False)
    assert not list((tmp_path / "room").glob("*.claim"))


async def test_what_loading_took_says_when_the_same_will_be_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(fake_engines(tmp_path / "engines")))
    (tmp_path / "m.gguf").touch()
    go = tmp_path / "go"
    settings = RuntimeSettings(
        EngineType.LLAMA_CPP, str(tmp_path / "m.gguf"), "apps/demo", drain_seconds=5, engine_env={"HOLD": str(go)}
    )
    times = LoadTimes(tmp_path)
    times.keep(settings, 5000.0)
    changes: asyncio.Queue[ReplicaFacts] = asyncio.Queue()
    async with aiohttp.ClientSession() as session:
        replica = LocalReplica(
            ReplicaFacts("apps/demo-1", 0), settings, tmp_path / "run", tmp_path / "log", session,
            lambda: changes.put_nowait(replica.facts),
            Line(lambda _: Room(tmp_path / "room").claim("apps/demo", Need("m", 1))), LoadQueue(2), times,
        )  # fmt: skip
        async with asyncio.timeout(60):
            while (facts := await changes.get()).eta is None:
                assert not facts.ready
            assert 4000 < facts.eta <= 5000
            go.touch()
            while (facts := await changes.get()).load is None:
                pass
        assert facts.ready and facts.eta is None
        await replica.stop(force=False)
    took = LoadTimes(tmp_path).of(settings)
    assert took is not None and took < 100


async def test_links_that_can_t_be_mended_stop_no_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied", "/home/other/model.gguf")

    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(fake_engines(tmp_path / "engines")))
    monkeypatch.setattr("llmservice_cli.local.replica.mend", denied)
    (tmp_path / "m.gguf").touch()
    settings = RuntimeSettings(EngineType.LLAMA_CPP, str(tmp_path / "m.gguf"), "apps/demo", drain_seconds=5)
    changes: asyncio.Queue[ReplicaFacts] = asyncio.Queue()
    async with aiohttp.ClientSession() as session:
        replica = LocalReplica(
            ReplicaFacts("apps/demo-1", 0), settings, tmp_path / "run", tmp_path / "log", session,
            lambda: changes.put_nowait(replica.facts),
            Line(lambda _: Room(tmp_path / "room").claim("apps/demo", Need("m", 1))), LoadQueue(2), LoadTimes(tmp_path),
        )  # fmt: skip
        async with asyncio.timeout(60):
            while not (facts := await changes.get()).ready:
                assert not facts.restarts
        await replica.stop(force=False)
