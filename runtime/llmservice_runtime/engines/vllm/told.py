"""What vLLM told of itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from llmservice_runtime.engines.base.capabilities import Capabilities, capabilities


@cache
def known() -> Capabilities:
    """capabilities.json beside this file."""
    return capabilities(Path(__file__).parent)
