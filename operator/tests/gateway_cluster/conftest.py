"""A gateway on a scripted API server, and where its parts are found."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in ("kube", "gateway")]

from llmservice_gateway.loop import new_event_loop  # noqa: E402


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What it runs on."""
    return {"uvloop": new_event_loop}
