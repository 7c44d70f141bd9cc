"""An engine that was killed comes back with its adapters before anybody may ask it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from every_engine.api import Api  # type: ignore[import-not-found]
from every_engine.engines import planned  # type: ignore[import-not-found]
from every_engine.replica import Replica  # type: ignore[import-not-found]

from demo.make_adapter import ADAPTERS
from llmservice_runtime.contract.adapters import Adapter, adapters_json
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.estimate.adapters import AdapterRoom

pytestmark = pytest.mark.engine


def test_a_killed_engine_has_its_adapters_when_it_is_ready_again(tmp_path: Path) -> None:
    (file := tmp_path / "adapters.json").write_text(adapters_json([Adapter("court", f"file://{ADAPTERS / 'court'}")]))
    replica = Replica(
        tmp_path / "replica", EngineType.LLAMA_CPP, restart=True, port=0, supervisor_port=0, threads=1,
        serves=planned(EngineType.LLAMA_CPP, 2, AdapterRoom(4, 16)), adapters_file=str(file), adapters_private=True,
    )  # fmt: skip
    try:
        replica.wait_ready()
        said = Api(replica.url).say(model="court", max_tokens=60)
        assert said.startswith("Your Majesty:")
        first = int(replica.state["engine_pid"])
        os.kill(first, signal.SIGKILL)
        replica.wait_for(lambda: replica.state.get("ready") and replica.state["engine_pid"] not in (None, first))
        assert Api(replica.url).say(model="court", max_tokens=60) == said
        assert replica.status()["adapters"][0]["state"] == "Loaded"
    finally:
        replica.stop()
