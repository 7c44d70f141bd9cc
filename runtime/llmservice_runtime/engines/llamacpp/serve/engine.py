"""llama.cpp behind batching's engine: one context, its decoder and the bookkeeping of its memory."""

from __future__ import annotations

from llmservice_runtime.batching.engine import BatchingEngine
from llmservice_runtime.batching.kvcache import KvCache
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.contract.pictures import shown_tokens
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.gpus import others
from llmservice_runtime.engines.llamacpp.serve.decoder import LlamaDecoder
from llmservice_runtime.engines.llamacpp.serve.eyes import LlamaEyes
from llmservice_runtime.engines.llamacpp.serve.memory import LlamaMemory
from llmservice_runtime.engines.llamacpp.serve.model import LoadedModel
from llmservice_runtime.engines.llamacpp.serve.tokenizer import LlamaTokenizer
from llmservice_runtime.openai.metrics import EngineMetrics


class LlamaCppEngine(BatchingEngine):
    """See BatchingEngine; `step_seconds` as in EngineArgs."""

    def __init__(
        self, loaded: LoadedModel, settings: RuntimeSettings, metrics: EngineMetrics, step_seconds: float = 0.0
    ) -> None:
        layout = loaded.layout
        kv = KvCache(
            layout.slots, layout.cells, shared=not layout.split, reuse=layout.reuse, idle_cells=layout.idle_cells
        )
        lanes = Lanes(kv, LlamaMemory(loaded.context, split=layout.split), settings.max_sequences, metrics)
        decoder = LlamaDecoder(loaded, lanes, step_seconds)
        eyes = None
        if (sight := loaded.sight) is not None:
            eyes = LlamaEyes(sight, shown_tokens(settings.context_tokens, sight.image_tokens))

        def close() -> None:
            if eyes is not None:
                eyes.close()
            loaded.close()

        super().__init__(
            LlamaTokenizer(loaded.model), decoder, settings, metrics, close, loaded.held,
            others(settings.planned_accelerator, loaded.gpus), eyes,
        )  # fmt: skip
        metrics.cache_config = {
            "block_size": 1,
            "num_gpu_blocks": layout.cells,
            "enable_prefix_caching": str(layout.reuse),
            "kv_layout": "split" if layout.split else "unified",
        }
