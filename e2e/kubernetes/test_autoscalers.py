"""Autoscalers of Kubernetes, in mode External: they write /scale, and the operator does as they say."""

from __future__ import annotations

from typing import Any

import pytest

from harness.api import Api
from harness.chat import Client
from harness.demand import wanted
from harness.programs import PROVIDER
from harness.service import Service
from harness.traffic import traffic
from harness.wait import stays

MOST = 2
BUSY = "250m"
"""Of a processor, on average; a replica without requests takes a tenth of it."""
HPA: dict[str, Any] = {
    "metadata": {"name": "demo"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "name": "demo"},
        "minReplicas": 1,
        "maxReplicas": MOST,
        "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": BUSY}}}
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    },
}


@pytest.mark.skipif(PROVIDER != "bare", reason="other clusters may have no metrics-server")
def test_an_hpa_decides_within_bounds_of_its_own(service: Service, client: Client, api: Api) -> None:
    service.create(scaling={"mode": "External", "maxReplicas": 1}).wait_ready()
    api.create("horizontalpodautoscalers", service.namespace, HPA)
    with traffic(client, service.status()["url"]) as sent:
        service.wait(lambda: wanted(service) == MOST, f"it asks for {MOST}\n{told(api, service)}", 180)
        service.wait_ready(MOST)
        stays(lambda: wanted(service) == MOST, "nobody overrules it", 10, service.report)
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}"
    service.wait(lambda: wanted(service) == 1, "it asks for one", 180)
    service.wait_ready(1)
    assert service.condition("ScalingActive")["reason"] == "External"
    events = [one for one in api.list("events", service.namespace) if one["involvedObject"]["name"] == "demo"]
    assert not [one for one in events if one["reason"] == "ScaleOverridden"]
    active = {one["type"]: one["status"] for one in told(api, service)["conditions"]}
    assert active["AbleToScale"] == active["ScalingActive"] == "True", active


def told(api: Api, service: Service) -> Any:
    """What it says of itself."""
    return api.get("horizontalpodautoscalers", service.namespace, "demo").get("status", {})
