"""What the gateway counts, and what it reads off its rooms when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from llmservice_gateway.journal import BROKEN, Entry
from llmservice_gateway.rooms import Rooms

M = TypeVar("M", bound=MetricWrapperBase)

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
TOGETHER = 64
"""Requests that are counted in one go."""
STEPS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0)


class GatewayMetrics:
    """One registry per gateway. `service` is a full name of the table, or empty when a request named none of them."""

    def __init__(self, rooms: Rooms) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Now(rooms, self._count))  # the first one: what it counts, the others tell
        self._over: list[Entry] = []
        """Requests that have ended and are not counted yet."""
        self._children: dict[tuple[MetricWrapperBase, tuple[str, ...]], MetricWrapperBase] = {}
        self.requests = self._counter("requests", "Requests by the status of their answer; 499: gone before.", "code")
        self.rejections = self._counter("rejections", "Requests that the gateway itself refused.", "reason")
        self.retries = self._counter("retries", "Attempts after the first one of a request.")
        self.broken = self._counter("broken_streams", "Streams whose replica failed after the first byte.")
        self.tokens = self._counter("tokens", "As far as answers tell: prompt and completion.", "kind")
        self.key_requests = self._counter("key_requests", "Requests by the name of their API key.", "key", "code")
        self.key_tokens = self._counter("key_tokens", "As `tokens`, by the name of the API key.", "key", "kind")
        self.adapter_requests = self._counter("adapter_requests", "Requests of an adapter.", "adapter", "code")
        self.adapter_tokens = self._counter("adapter_tokens", "As `tokens`, of an adapter.", "adapter", "kind")
        self.queue = self._histogram("queue_seconds", "Waiting for a place at a replica.", SECONDS)
        self.first = self._histogram(
            "time_to_first_byte_seconds", "From a request to its answer's first byte.", SECONDS
        )
        self.step = self._histogram(
            "inter_chunk_seconds", "Between pieces of a stream, one mean for each stream.", STEPS
        )

    def shared_by(self, gateways: Callable[[], int]) -> None:
        """Tell how many gateways share the keys' limits, as this one sees them."""
        gauge = Gauge("llmservice_gateway_gateways", "Gateways that share limits.", registry=self.registry)
        gauge.set_function(gateways)

    def over(self, entry: Entry) -> None:
        """A request has ended. It is counted with others, or when somebody looks: that takes a third of the time."""
        self._over.append(entry)
        if len(self._over) >= TOGETHER:
            self._count()

    def _count(self) -> None:
        while self._over:
            self._count_one(self._over.pop())

    def _count_one(self, entry: Entry) -> None:
        name, of = entry.service, self._of
        of(self.requests, name, str(entry.status)).inc()
        if entry.key:
            of(self.key_requests, name, entry.key, str(entry.status)).inc()
        if entry.adapter:
            of(self.adapter_requests, name, entry.adapter, str(entry.status)).inc()
        if entry.reason == BROKEN and entry.first:
            of(self.broken, name).inc()
        elif entry.reason:
            of(self.rejections, name, entry.reason).inc()
        if entry.retries:
            of(self.retries, name).inc(entry.retries)
        if entry.queued and not entry.batch:
            of(self.queue, name).observe(entry.queue_seconds)
        if entry.prompt_tokens:
            of(self.tokens, name, "prompt").inc(entry.prompt_tokens)
            of(self.tokens, name, "completion").inc(entry.answer_tokens)
            for metric, label in ((self.key_tokens, entry.key), (self.adapter_tokens, entry.adapter)):
                if label:
                    of(metric, name, label, "prompt").inc(entry.prompt_tokens)
                    of(metric, name, label, "completion").inc(entry.answer_tokens)
        if entry.first and entry.status == 200 and not entry.batch:
            of(self.first, name).observe(entry.first - entry.came)
        if entry.chunks and not entry.batch:
            of(self.step, name).observe((entry.last - entry.first) / entry.chunks)

    def _of(self, metric: M, *labels: str) -> M:
        """`metric.labels(...)`, which takes longer than to count."""
        found = self._children.get((metric, labels))
        if found is None:
            found = self._children[metric, labels] = metric.labels(*labels)
        return cast(M, found)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"llmservice_gateway_{name}", help_text, ["service", *labels], registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"llmservice_gateway_{name}", help_text, ["service"], registry=self.registry, buckets=buckets)


class _Now(Collector):
    """Gauges of what is so at this moment: nothing that could be left over from a request that went wrong."""

    def __init__(self, rooms: Rooms, count: Callable[[], None]) -> None:
        self._rooms = rooms
        self._count = count

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self._count()
        in_flight, held, tokens, oldest, requests, load = (
            GaugeMetricFamily(f"llmservice_gateway_{name}", text, labels=labels)
            for name, text, labels in (
                ("in_flight", "Requests that replicas have.", ["service"]),
                ("held", "Requests that wait for a place at a replica.", ["service"]),
                ("held_prompt_tokens", "Of their prompts, guessed from their bytes.", ["service"]),
                ("held_oldest_seconds", "How long the first of them has waited.", ["service"]),
                ("endpoint_requests", "Requests that a replica has.", ["service", "endpoint"]),
                ("endpoint_tokens", "Tokens that they will hold, guessed.", ["service", "endpoint"]),
            )
        )
        for name in self._rooms.services:
            demand = self._rooms.demand(name)
            in_flight.add_metric([name], demand.in_flight)
            held.add_metric([name], demand.held)
            tokens.add_metric([name], demand.held_tokens)
            oldest.add_metric([name], demand.oldest_seconds)
            for replica, size in self._rooms.loads(name).items():
                requests.add_metric([name, replica], self._rooms.in_flight(replica))
                load.add_metric([name, replica], size.tokens)
        yield from (in_flight, held, tokens, oldest, requests, load)
