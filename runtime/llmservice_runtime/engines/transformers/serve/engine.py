"""Transformers behind batching's engine: one model, its decoder and the bookkeeping of its memory."""

from __future__ import annotations

from llmservice_runtime.batching.engine import BatchingEngine
from llmservice_runtime.batching.kvcache import KvCache
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.transformers.serve.model import LoadedModel
from llmservice_runtime.engines.transformers.serve.packed import PackedDecoder
from llmservice_runtime.engines.transformers.serve.slots import Slots, attach
from llmservice_runtime.openai.metrics import EngineMetrics

BATCH = 2048
"""Most tokens of one step."""
PAD = 64
"""Contexts are rounded up to this."""


class TransformersEngine(BatchingEngine):
    """See BatchingEngine."""

    def __init__(self, loaded: LoadedModel, settings: RuntimeSettings, metrics: EngineMetrics) -> None:
        capacity = -(-settings.context_tokens // PAD) * PAD
        slots = Slots(settings.max_sequences, capacity)
        attach(loaded.model, slots)
        kv = KvCache(slots.slots, slots.slots * capacity, shared=False, reuse=True)
        lanes = Lanes(kv, slots, settings.max_sequences, metrics)
        decoder = PackedDecoder(loaded.model, slots, lanes, BATCH)
        super().__init__(loaded.tokenizer, decoder, settings, metrics, loaded.close)
