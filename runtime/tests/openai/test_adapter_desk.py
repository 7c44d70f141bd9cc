"""Orders of adapters that an engine can't carry out: each is told with a class that says whether it died of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from llmservice_runtime.contract.adapters import Fetched, Order
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.openai.adapters import AdapterDesk
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.openai.reports import Reporter
from llmservice_runtime.openai.state import Server


class Failing:
    """An engine that lives on, whatever it fails to load."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def load_adapter(self, name: str, path: Path) -> None:
        if name == "bad":
            raise self._error

    async def unload_adapter(self, name: str) -> None: ...


class Told(Reporter):
    def __init__(self) -> None:
        super().__init__(None)
        self.failed: Mapping[str, UserError] = {}

    def adapters(self, turn: int, loaded: Iterable[str], failed: Mapping[str, UserError]) -> None:
        self.loaded, self.failed = list(loaded), failed


class OutOfMemoryError(RuntimeError):
    """As PyTorch calls its own."""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("a tensor is cut"), "ModelDamaged"),
        (OSError(5, "Input/output error"), "ModelDamaged"),
        (MemoryError(), "OutOfMemory"),
        (OutOfMemoryError("CUDA out of memory"), "OutOfGPUMemory"),
    ],
)
async def test_an_engine_that_lives_has_not_crashed(error: Exception, failure: str) -> None:
    told, server = Told(), Server("demo", 64, EngineMetrics("demo"))
    desk = AdapterDesk(Failing(error), server, told)
    await desk.obey(Order(1, (Fetched("bad", "/bad"), Fetched("good", "/good"))))
    assert told.loaded == ["good"] and list(server.adapters) == ["good"]
    assert told.failed["bad"].failure == failure and "Loading it failed" in told.failed["bad"].reason
