"""From settings to a served model: what the engine process of llama.cpp loads."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.gpus import others
from llmservice_runtime.engines.llamacpp.arguments import parse_args
from llmservice_runtime.engines.llamacpp.serve.engine import LlamaCppEngine
from llmservice_runtime.engines.llamacpp.serve.layout import MAX_SLOTS
from llmservice_runtime.engines.llamacpp.serve.model import load_model
from llmservice_runtime.engines.llamacpp.serve.pooled import load_pooled
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.pooling.engine import PoolingEngine


def load(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> LlamaCppEngine:
    """Load the model and start its step thread; blocks. `progress` gets 0..1. UserError for what a user can mend."""
    if settings.max_sequences > MAX_SLOTS:
        reason = f"`max_sequences` is {settings.max_sequences}; llama.cpp decodes at most {MAX_SLOTS} together."
        raise UserError(reason, f"Set max_sequences to {MAX_SLOTS} or less.")
    args = parse_args(settings.engine_args, planned=True)
    return LlamaCppEngine(load_model(settings, args, progress), settings, metrics, args.step_seconds)


def load_pooling(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> PoolingEngine:
    """The same of a model that makes vectors or scores."""
    model = load_pooled(settings, parse_args(settings.engine_args, planned=True), progress)
    return PoolingEngine(model, settings, metrics, others(settings.planned_accelerator, model.gpus))
