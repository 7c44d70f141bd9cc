"""`python -m llmservice_runtime.engines.toy.serve --settings FILE`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from llmservice_runtime.engines.toy.definition import ENGINE

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.launch import main
from llmservice_runtime.openai.loading import HostedEngine
from llmservice_runtime.openai.metrics import EngineMetrics


def _load(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> HostedEngine:
    from llmservice_runtime.engines.toy.serve.engine import ToyEngine

    engine: HostedEngine = ToyEngine(settings, metrics)
    return engine


if __name__ == "__main__":
    sys.exit(main(_load, ENGINE.unsupported_fields))
