"""vLLM as it is installed; a test that needs it says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmservice_runtime.contract.engines import EngineType


@pytest.fixture(scope="session")
def vllm_installed(installed: Callable[[EngineType], None]) -> None:
    """Fails, with what to do, where it is not."""
    installed(EngineType.VLLM)
