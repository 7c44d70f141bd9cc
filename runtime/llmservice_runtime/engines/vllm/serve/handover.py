"""The settings on their way through `vllm serve` to the plug-ins in it."""

from __future__ import annotations

import os
from pathlib import Path

from llmservice_runtime.contract.settings import RuntimeSettings

SETTINGS_ENV = "LLMSERVICE_SETTINGS_FILE"
"""The file that the process was started with."""
PID_ENV = "LLMSERVICE_ENGINE_PID"
"""The API server's. What it starts has its environment, but not its pipes."""


def is_api_server() -> bool:
    """Whether this process is the one that the supervisor started."""
    return os.environ.get(PID_ENV) == str(os.getpid())


def handed_over() -> RuntimeSettings:
    """What this replica is to serve."""
    return RuntimeSettings.from_json(Path(os.environ[SETTINGS_ENV]).read_text())
