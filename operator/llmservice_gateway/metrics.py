"""What the gateway counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class GatewayMetrics:
    """One registry per gateway. `service` is a full name of the table, or empty when a request named none of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llmservice_gateway_requests", "Answered requests.", ["service", "code"], registry=self.registry
        )
        self.in_flight = Gauge(
            "llmservice_gateway_in_flight", "Requests being answered.", ["service"], registry=self.registry
        )
        self.retries = Counter(
            "llmservice_gateway_retries", "Requests sent to a second replica.", ["service"], registry=self.registry
        )
        self.broken = Counter(
            "llmservice_gateway_broken_streams",
            "Streams whose replica failed after the first byte.",
            ["service"],
            registry=self.registry,
        )
