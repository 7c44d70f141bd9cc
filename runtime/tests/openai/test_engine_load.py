"""A load, and who waits for a part of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.loading import Loading
from llmservice_runtime.openai.reports import Reporter

SETTINGS = RuntimeSettings(EngineType.TRANSFORMERS, "/m", "m", context_tokens=8)


def test_others_import_when_native_code_has_the_model_and_not_when_it_is_loaded() -> None:
    go_on = threading.Event()

    def load(settings: RuntimeSettings, metrics: Any, progress: Callable[[float], None]) -> Any:
        progress(0.0)
        go_on.wait(60)

    loading = Loading(SETTINGS, load, Reporter(None))
    loading.wait_imported()
    assert not loading.engine.done()
    go_on.set()
    loading.engine.result(60)


def test_nobody_waits_for_a_load_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmservice_runtime.openai.loading.IMPORT_SECONDS", None)

    def load(*_: Any) -> Any:
        raise ValueError("no")

    loading = Loading(SETTINGS, load, Reporter(None))
    loading.wait_imported()
    with pytest.raises(ValueError, match="no"):
        loading.engine.result(60)
