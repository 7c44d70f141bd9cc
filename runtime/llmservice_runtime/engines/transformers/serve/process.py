"""From settings to a served model: what the engine process of Transformers loads."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.gpus import others, visible
from llmservice_runtime.engines.transformers.arguments import parse_args
from llmservice_runtime.engines.transformers.serve.engine import TransformersEngine
from llmservice_runtime.engines.transformers.serve.model import load_model
from llmservice_runtime.engines.transformers.serve.pooled import load_pooled
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.pooling.engine import PoolingEngine


def load(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> TransformersEngine:
    """Load the model and start its step thread; blocks. `progress` gets 0..1. UserError for what a user can mend."""
    args = parse_args(settings.engine_args)
    return TransformersEngine(load_model(settings, args, progress), settings, metrics)


def load_pooling(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> PoolingEngine:
    """The same of a model that makes vectors or scores."""
    model = load_pooled(settings, parse_args(settings.engine_args), progress)
    return PoolingEngine(model, settings, metrics, others(settings.planned_accelerator, visible()))
