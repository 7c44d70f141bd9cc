"""Transformers as it is installed. Modules beside these tests and beside all tests are imported by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType

for folder in (Path(__file__).parent, Path(__file__).parents[1]):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@pytest.fixture(scope="session")
def transformers_installed(installed: Callable[[EngineType], None]) -> None:
    """Fails, with what to do, where it is not."""
    installed(EngineType.TRANSFORMERS)
