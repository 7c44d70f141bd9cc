"""`python -m llmservice_runtime.engines.transformers.serve --settings FILE`: one model, for the supervisor to start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.torch_waits import waits
from llmservice_runtime.openai.launch import main
from llmservice_runtime.openai.loading import HostedEngine, HostedPooler
from llmservice_runtime.openai.metrics import EngineMetrics


def _load(
    settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]
) -> HostedEngine | HostedPooler:
    # PyTorch is imported when the port is bound, not before. Everything is read from the model's folder.
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from llmservice_runtime.engines.transformers.serve.process import load, load_pooling

    progress(0.0)
    return (load_pooling if settings.task in POOLED else load)(settings, metrics, progress)


if __name__ == "__main__":
    os.environ.update(waits(os.environ))
    sys.exit(main(_load))
