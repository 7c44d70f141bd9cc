"""Transformers behind batching's engine: one model, its decoder and the bookkeeping of its memory."""

from __future__ import annotations

import logging
from typing import Any

import torch

from llmservice_runtime.batching.decoder import Decoder
from llmservice_runtime.batching.engine import BatchingEngine
from llmservice_runtime.batching.kvcache import KvCache
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.gpus import others, visible
from llmservice_runtime.engines.base.tensors import allocator_line, cache_lines
from llmservice_runtime.engines.transformers.serve import fitting
from llmservice_runtime.engines.transformers.serve.alone import AloneDecoder, Caches
from llmservice_runtime.engines.transformers.serve.layout import Layout, choose_layout
from llmservice_runtime.engines.transformers.serve.model import LoadedModel
from llmservice_runtime.engines.transformers.serve.packed import PackedDecoder
from llmservice_runtime.engines.transformers.serve.slots import Slots
from llmservice_runtime.machine.available import available_memory
from llmservice_runtime.openai.metrics import BATCHED, ONE_BY_ONE, EngineMetrics

BATCH = 2048
"""Most tokens of one step."""
GIB = 1 << 30
GPU_SHARE = 0.8
"""Part of a GPU's free memory that keys and values may take; the rest is for what a pass computes with."""

log = logging.getLogger(__name__)


class TransformersEngine(BatchingEngine):
    """See BatchingEngine."""

    def __init__(self, loaded: LoadedModel, settings: RuntimeSettings, metrics: EngineMetrics) -> None:
        model, vocab = loaded.model, loaded.tokenizer.vocab_size
        reason, token_bytes = fitting.misfit(model), 0
        if not reason:
            reason, token_bytes = fitting.same(model, vocab)
        decoder: Decoder
        slots: Slots | None = None
        if reason:
            log.warning("answers are computed one by one: %s", reason)
            decoder, cells = _alone(model, vocab, settings, metrics)
        else:
            decoder, slots, cells = _packed(model, token_bytes, settings, metrics)

        def held() -> list[HeldLine]:
            cache = cache_lines(slots.tensors, cells * slots.token_bytes) if slots is not None else ()
            lines = [*loaded.held(), *cache]
            gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
            reserved = sum(torch.cuda.memory_reserved(gpu) for gpu in gpus)
            return [*lines, *allocator_line(lines, reserved)]

        unplanned = others(settings.planned_accelerator, visible())
        super().__init__(loaded.tokenizer, decoder, settings, metrics, loaded.close, held, unplanned)
        metrics.path = ONE_BY_ONE if reason else BATCHED
        metrics.cache_config = {
            "block_size": 1,
            "num_gpu_blocks": cells,
            "enable_prefix_caching": str(not reason),
            "kv_layout": "split",
        }


def _packed(
    model: Any, token_bytes: int, settings: RuntimeSettings, metrics: EngineMetrics
) -> tuple[PackedDecoder, Slots, int]:
    layout = _layout(model, token_bytes, settings)
    slots = Slots(layout.slots, layout.capacity, fitting.windows(model.config))
    fitting.attach(model, slots)
    kv = KvCache(layout.slots, layout.cells, shared=False, reuse=True, bounded=layout.bounded)
    lanes = Lanes(kv, slots, min(settings.max_sequences, layout.slots), metrics)
    return PackedDecoder(model, slots, lanes, BATCH), slots, layout.cells


def _alone(model: Any, vocab: int, settings: RuntimeSettings, metrics: EngineMetrics) -> tuple[AloneDecoder, int]:
    sequences = settings.max_sequences
    caches = Caches(sequences)
    full = sequences * settings.context_tokens
    cells = min(full, max(settings.context_tokens, settings.kv_tokens)) if settings.kv_tokens else full
    kv = KvCache(sequences, cells, shared=False, reuse=False, bounded=cells < full)
    lanes = Lanes(kv, caches, sequences, metrics)
    return AloneDecoder(model, caches, lanes, BATCH, chunks=fitting.continues(model, vocab)), cells


def _layout(model: Any, token_bytes: int, settings: RuntimeSettings) -> Layout:
    lazy = model.device.type == "cpu"
    available = available_memory() if lazy else int(torch.cuda.mem_get_info()[0] * GPU_SHARE)
    layout = choose_layout(
        context_tokens=settings.context_tokens,
        sequences=settings.max_sequences,
        kv_tokens=settings.kv_tokens,
        token_bytes=token_bytes,
        available=available,
        lazy=lazy,
    )
    need = layout.cells * token_bytes
    if need > available:
        raise UserError(
            f"The KV cache of {layout.cells} tokens needs {need / GIB:.2f} GiB, {available / GIB:.2f} GiB are free.",
            f"About {available // max(1, token_bytes)} tokens fit: lower contextTokens ({settings.context_tokens}) or"
            f" the sequences ({settings.max_sequences}).",
            FailureClass.OUT_OF_MEMORY if lazy else FailureClass.OUT_OF_GPU_MEMORY,
        )
    return layout
