"""The stat-logger plug-in: how many steps were completed, how long they take, and what runs.

vLLM calls it after every step, also under `--disable-log-stats`.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from llmservice_runtime.contract.report import Phase
from llmservice_runtime.engines.vllm.plugins import STEPS
from llmservice_runtime.engines.vllm.serve.link import LINK
from llmservice_runtime.engines.vllm.serve.pace import PACE


class StepCounter(StatLoggerBase):  # type: ignore[misc]
    """One per engine core; they count together."""

    @LINK.or_end(STEPS)
    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        self._engine = engine_index
        LINK.came(STEPS, Phase.WARMING)

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """A step is done, or requests ended between steps (then there are no scheduler_stats)."""
        if scheduler_stats is not None:
            PACE.stepped(
                engine_idx,
                scheduler_stats.num_running_reqs,
                scheduler_stats.num_waiting_reqs,
                scheduler_stats.kv_cache_usage,
            )

    def log_engine_initialized(self) -> None:
        """Nothing to say."""
