"""Our own metrics beside vLLM's on /metrics: what it has no name for."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from llmservice_runtime.contract import metrics as names
from llmservice_runtime.engines.vllm.serve.pace import Pace
from llmservice_runtime.engines.vllm.serve.running import Running

LABELS = ("model_name", "engine")


class OurMetrics(Collector):
    """Made when somebody scrapes. vLLM's registry takes them as they are."""

    def __init__(self, model_name: str, running: Running, pace: Pace) -> None:
        self._values = (model_name, "0")
        self._running = running
        self._pace = pace

    def collect(self) -> Iterable[Metric]:
        """Whether it drains, and the times of its steps."""
        draining = GaugeMetricFamily(
            names.DRAINING, "1 while the engine takes no new work and finishes what runs.", labels=LABELS
        )
        draining.add_metric(self._values, float(self._running.draining))
        yield draining
        steps = HistogramMetricFamily(names.STEP_SECONDS, "Time from one step to the next, seconds.", labels=LABELS)
        times = self._pace.times
        steps.add_metric(self._values, times.cumulative(), times.total)
        yield steps
