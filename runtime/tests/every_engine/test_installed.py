"""An engine that is not there fails its tests: one that is skipped looks like one that has passed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType

from .engines import ENGINES


def test_an_engine_that_is_not_installed_fails_its_tests_and_says_what_to_do(
    installed: Callable[[EngineType], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path))
    for one in ENGINES:
        with pytest.raises(pytest.fail.Exception, match=f"{one.value} is not in {tmp_path}.* make .venv/.engines"):
            installed(one)
