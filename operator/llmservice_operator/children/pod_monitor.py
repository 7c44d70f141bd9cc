"""The PodMonitor: where the Prometheus operator runs, it finds the replicas' metrics by itself."""

from __future__ import annotations

from llmservice_api.labels import NAME
from llmservice_operator.facts.config import Monitoring
from llmservice_operator.facts.owner import Json, Owner

API_VERSION = "monitoring.coreos.com/v1"
PORT = "http"
"""Name of the container's port: engines answer /metrics where they answer requests."""


def pod_monitor(owner: Owner, monitoring: Monitoring) -> Json:
    """Every replica is scraped by itself; series carry the service's name."""
    monitor = owner.child(
        API_VERSION,
        "PodMonitor",
        owner.name,
        spec={
            "selector": {"matchLabels": owner.selector},
            "podMetricsEndpoints": [{"port": PORT, "path": "/metrics", "interval": f"{monitoring.interval_seconds}s"}],
            "podTargetLabels": [NAME],
        },
    )
    monitor["metadata"]["labels"] |= dict(monitoring.labels)
    return monitor
