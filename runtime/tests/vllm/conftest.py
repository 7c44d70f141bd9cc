"""vLLM as it is installed; a test that needs it says so."""

from __future__ import annotations

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.environment import engines_dir, installed_engines


@pytest.fixture(scope="session", autouse=False)
def vllm_installed() -> None:
    """Told as skipped, with what to do, where it is not."""
    if not installed_engines()[EngineType.VLLM]:
        pytest.skip(f"vLLM is not in {engines_dir()}; install it: llmservice-runtime install vllm")
