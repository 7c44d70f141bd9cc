"""`python -m llmservice_runtime.engines.llamacpp.serve --settings FILE`: one model, for the supervisor to start."""

from __future__ import annotations

import sys
from collections.abc import Callable

from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.launch import main
from llmservice_runtime.openai.loading import HostedEngine, HostedPooler
from llmservice_runtime.openai.metrics import EngineMetrics


def _load(
    settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]
) -> HostedEngine | HostedPooler:
    # The native library is imported when the port is bound, not before.
    from llmservice_runtime.engines.llamacpp.serve.lean import import_llama_cpp

    import_llama_cpp()
    from llmservice_runtime.engines.llamacpp.serve.process import load, load_pooling

    progress(0.0)
    return (load_pooling if settings.task in POOLED else load)(settings, metrics, progress)


if __name__ == "__main__":
    sys.exit(main(_load))
