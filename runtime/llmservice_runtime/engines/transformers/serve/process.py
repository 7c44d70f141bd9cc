"""From settings to a served model: what the engine process of Transformers loads."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.transformers.arguments import parse_args
from llmservice_runtime.engines.transformers.serve.engine import TransformersEngine
from llmservice_runtime.engines.transformers.serve.model import load_model
from llmservice_runtime.openai.metrics import EngineMetrics


def load(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> TransformersEngine:
    """Load the model and start its step thread; blocks. `progress` gets 0..1. UserError for what a user can mend."""
    args = parse_args(settings.engine_args)
    return TransformersEngine(load_model(settings, args, progress), settings, metrics)
