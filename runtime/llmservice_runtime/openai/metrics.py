"""What a serving engine measures, exported under vLLM's names.

The engine's step thread records with `EngineMetrics`; a scrape on the event loop reads. Recording costs a lock, a
bisect and an addition, never a label lookup; families are built only when somebody scrapes.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from llmservice_runtime.contract import metrics as names

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STEP_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FINISHED_REASONS = ("stop", "length", "abort", "error")
BATCHED, ONE_BY_ONE = "batched", "one_by_one"
"""How an engine computes answers: all in one pass, or each in passes of its own where the model allows no other."""
REJECTION_REASONS = ("max_num_queued_reqs", "draining")
"""vLLM's reason for a full queue, and ours."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What is true of an engine now, in answers (`n` of a request each count) and 0..1."""

    running: int = 0
    waiting: int = 0
    waiting_by_reason: Mapping[str, int] = field(default_factory=dict)
    """vLLM's reasons: `capacity` (no slot or KV space), `deferred` (not yet schedulable)."""
    kv_usage: float = 0.0
    step_seconds: float = 0.0
    """What the step at hand takes by the engine's measured speed; 0 = not known."""
    running_adapters: tuple[str, ...] = ()
    """Names of LoRA adapters that answers run with..."""
    waiting_adapters: tuple[str, ...] = ()
    """...and that answers wait for."""


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One finished answer. Times are `time.monotonic()` seconds, None where it never got that far."""

    finish_reason: str
    """stop, length, abort or error."""
    prompt_tokens: int
    generated_tokens: int
    arrived: float
    finished: float
    scheduled: float | None = None
    """First time in a batch."""
    first_token: float | None = None
    last_token: float | None = None
    batch: bool = False
    """It paused for others: its times say nothing of how quick the engine is."""


class Histogram:
    """Bucket counts and a sum; `observe` is one bisect."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a value on a bound belongs to that bucket (`le`)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(`le`, count of values up to it), as Prometheus wants them."""
        rows: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            running += count
            rows.append(("+Inf" if bound == float("inf") else repr(float(bound)), running))
        return rows


HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    names.TIME_TO_FIRST_TOKEN: ("Arrival to first token, seconds.", names.TTFT_BUCKETS),
    names.INTER_TOKEN_LATENCY: ("Time between tokens of one answer, seconds.", names.TOKEN_BUCKETS),
    names.TIME_PER_OUTPUT_TOKEN: ("Mean time per token of one answer after its first, seconds.", names.TOKEN_BUCKETS),
    names.E2E_LATENCY: ("Arrival to last token, seconds.", names.REQUEST_BUCKETS),
    names.QUEUE_TIME: ("Arrival to first step, seconds.", names.REQUEST_BUCKETS),
    names.INFERENCE_TIME: ("First step to last token, seconds.", names.REQUEST_BUCKETS),
    names.PREFILL_TIME: ("First step to first token, seconds.", names.REQUEST_BUCKETS),
    names.DECODE_TIME: ("First to last token, seconds.", names.REQUEST_BUCKETS),
    names.ITERATION_TOKENS: ("Tokens per engine step.", names.ITERATION_BUCKETS),
    names.STEP_SECONDS: ("Time of one step in the engine's native decode, seconds.", STEP_BUCKETS),
    names.PYTHON_SECONDS: ("Time of one step outside the native decode, seconds.", STEP_BUCKETS),
}

OF_STEP = (names.ITERATION_TOKENS, names.STEP_SECONDS, names.PYTHON_SECONDS, names.INTER_TOKEN_LATENCY)

COUNTERS: dict[str, str] = {
    names.PROMPT_TOKENS: "Prompt tokens of answers that began, cached ones too.",
    names.PROMPT_TOKENS_CACHED: "Prompt tokens that came from the prefix cache.",
    names.GENERATION_TOKENS: "Tokens generated.",
    names.PREEMPTIONS: "Answers put back to the queue for want of KV space.",
    names.PREFIX_CACHE_QUERIES: "Prompt tokens looked up in the prefix cache.",
    names.PREFIX_CACHE_HITS: "Prompt tokens found in the prefix cache.",
}


class EngineMetrics(Collector):
    """The recorder of one engine. Every method is safe from any thread and costs about a microsecond."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self.stats: Callable[[], EngineStats] = EngineStats
        """Snapshot of the engine; read at every scrape, so it must answer while a step runs."""
        self.cache_config: Mapping[str, str | int] = {}
        """Labels of cache_config_info, vLLM's: block_size, num_gpu_blocks, cache_dtype..."""
        self.max_adapters = 0
        """LoRA adapters that there is room for; 0 = none."""
        self.path = BATCHED
        """How the engine computes answers."""
        self.draining = False
        self.load_phases: dict[str, float] = {}
        """Seconds that each load phase took."""
        self._lock = threading.Lock()
        self.clear()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def clear(self) -> None:
        """Forget what was counted: warming up is not serving."""
        with self._lock:
            self.steps = 0
            self._counters = dict.fromkeys(COUNTERS, 0)
            self._finished = dict.fromkeys(FINISHED_REASONS, 0)
            self._paths = dict.fromkeys((BATCHED, ONE_BY_ONE), 0)
            self._rejected = dict.fromkeys(REJECTION_REASONS, 0)
            self._histograms = {name: Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}
            self._of_step = [self._histograms[name] for name in OF_STEP]

    def step(
        self,
        prompt_tokens: int,
        generated_tokens: int,
        decode_seconds: float,
        python_seconds: float,
        gaps: Iterable[float] = (),
    ) -> None:
        """One engine step: tokens that it computed, cached ones apart, its native time and the time around it; seconds
        between each token and the one before it in the same answer."""
        with self._lock:
            self.steps += 1
            self._counters[names.GENERATION_TOKENS] += generated_tokens
            tokens, decode, python, between = self._of_step
            tokens.observe(prompt_tokens + generated_tokens)
            decode.observe(decode_seconds)
            python.observe(python_seconds)
            for seconds in gaps:
                between.observe(seconds)

    def prefilled(self, prompt_tokens: int, cached_tokens: int) -> None:
        """An answer's prompt is read. As in vLLM all of it counts, cached or not, once per answer."""
        with self._lock:
            self._counters[names.PROMPT_TOKENS] += prompt_tokens
            self._counters[names.PROMPT_TOKENS_CACHED] += cached_tokens

    def first_token(self, seconds: float) -> None:
        """Arrival to first token of one answer; recorded when it happens, not when the answer ends."""
        with self._lock:
            self._histograms[names.TIME_TO_FIRST_TOKEN].observe(seconds)

    def request_finished(self, record: FinishedRequest) -> None:
        """One answer ended, however; its times go to the histograms that it reached."""
        times = {} if record.batch else _durations(record)
        with self._lock:
            self._finished[record.finish_reason] += 1
            self._paths[self.path] += 1
            for name, seconds in times.items():
                self._histograms[name].observe(seconds)

    def rejected(self, reason: str = "max_num_queued_reqs") -> None:
        """A request was refused before queueing: `max_num_queued_reqs` or `draining`."""
        with self._lock:
            self._rejected[reason] += 1

    def preempted(self, count: int = 1) -> None:
        """Answers lost their KV space and wait again."""
        with self._lock:
            self._counters[names.PREEMPTIONS] += count

    def prefix_cache(self, queried: int, hit: int) -> None:
        """Prompt tokens looked up in the prefix cache and found there."""
        with self._lock:
            self._counters[names.PREFIX_CACHE_QUERIES] += queried
            self._counters[names.PREFIX_CACHE_HITS] += hit

    def render(self) -> bytes:
        """The exposition text; never waits for a step."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Prometheus' collector interface."""
        labels, values = ["model_name", "engine"], [self.model_name, "0"]
        with self._lock:
            counters = dict(self._counters)
            finished, rejected, paths = dict(self._finished), dict(self._rejected), dict(self._paths)
            buckets = {name: (h.cumulative(), h.total) for name, h in self._histograms.items()}
        for name, count in counters.items():
            family = CounterMetricFamily(name, COUNTERS[name], labels=labels)
            family.add_metric(values, count)
            yield family
        successes = CounterMetricFamily(names.REQUEST_SUCCESS, "Finished answers.", labels=[*labels, "finished_reason"])
        yield _labelled(successes, values, finished)
        refusals = CounterMetricFamily(
            names.ADMISSION_REJECTIONS, "Requests refused before queueing.", labels=[*labels, "reason"]
        )
        yield _labelled(refusals, values, rejected)
        ways = CounterMetricFamily(
            names.ANSWERS_BY_PATH, "Finished answers by how they were computed.", labels=[*labels, "path"]
        )
        yield _labelled(ways, values, paths)
        for name, (rows, total) in buckets.items():
            histogram = HistogramMetricFamily(name, HISTOGRAMS[name][0], labels=labels)
            histogram.add_metric(values, buckets=rows, sum_value=total)
            yield histogram
        yield from self._gauges(labels, values)

    def _gauges(self, labels: list[str], values: list[str]) -> Iterable[Metric]:
        stats = self.stats()
        for name, text, value in (
            (names.REQUESTS_RUNNING, "Answers being generated.", stats.running),
            (names.REQUESTS_WAITING, "Answers waiting.", stats.waiting),
            (names.KV_CACHE_USAGE, "Used part of the KV cache, 0 to 1.", stats.kv_usage),
            (names.DRAINING, "1 while the engine takes no new work and finishes what runs.", int(self.draining)),
        ):
            gauge = GaugeMetricFamily(name, text, labels=labels)
            gauge.add_metric(values, value)
            yield gauge
        reasons = {"capacity": 0, "deferred": 0, **stats.waiting_by_reason}
        waiting = GaugeMetricFamily(
            names.REQUESTS_WAITING_BY_REASON, "Waiting answers by reason.", labels=[*labels, "reason"]
        )
        yield _labelled(waiting, values, reasons)
        phases = GaugeMetricFamily(
            names.LOAD_PHASE_SECONDS, "Seconds that each load phase took.", labels=[*labels, "phase"]
        )
        yield _labelled(phases, values, self.load_phases)
        if self.max_adapters:
            adapters = GaugeMetricFamily(
                names.LORA_REQUESTS_INFO,
                "LoRA adapters of requests; its value is the time.",
                labels=["max_lora", "waiting_lora_adapters", "running_lora_adapters"],
            )
            told = (",".join(stats.waiting_adapters), ",".join(stats.running_adapters))
            adapters.add_metric([str(self.max_adapters), *told], time.time())
            yield adapters
        if self.cache_config:
            info = GaugeMetricFamily(
                names.CACHE_CONFIG_INFO, "Configuration of the KV cache.", labels=[*labels, *self.cache_config]
            )
            info.add_metric([*values, *(str(v) for v in self.cache_config.values())], 1)
            yield info


def _labelled(
    family: CounterMetricFamily | GaugeMetricFamily, values: list[str], by_label: Mapping[str, float]
) -> Metric:
    for label, value in by_label.items():
        family.add_metric([*values, label], value)
    return family


def _durations(record: FinishedRequest) -> dict[str, float]:
    """vLLM's definitions (v1/metrics/stats.py, FinishedRequestStats)."""
    times = {names.E2E_LATENCY: record.finished - record.arrived}
    scheduled, first, last = record.scheduled, record.first_token, record.last_token
    if scheduled is not None:
        times[names.QUEUE_TIME] = scheduled - record.arrived
        if first is not None:
            times[names.PREFILL_TIME] = first - scheduled
    if scheduled is not None and first is not None and last is not None:
        times[names.INFERENCE_TIME] = last - scheduled
        times[names.DECODE_TIME] = last - first
        if record.generated_tokens > 1:
            times[names.TIME_PER_OUTPUT_TOKEN] = (last - first) / (record.generated_tokens - 1)
    return times
