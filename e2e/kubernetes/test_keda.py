"""KEDA, in mode External: its metrics-api scaler asks the gateways, by the ScaledObject of docs/scaling.md."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from cluster import keda
from harness.chat import Client
from harness.demand import wanted
from harness.programs import PROVIDER, ROOT, kubectl
from harness.service import Service
from harness.traffic import traffic
from harness.wait import stays

STREAMS, MOST = 10, 3
"""At 4 requests a replica."""
SOON = '{"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {%s}}}}}}'
Record = Callable[[str, object], None]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(PROVIDER != "bare", reason="brings its own build of KEDA into this machine's registry"),
]


def scaled_object(service: Service) -> str:
    """The one of the docs, for this service."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    (found,) = (one[1] for one in re.finditer("```yaml\n(.*?)```", page, re.DOTALL) if "ScaledObject" in one[1])
    names = {"apps/qwen": service.full_name, "namespace: apps": f"namespace: {service.namespace}", "qwen": service.name}
    for name, here in names.items():
        found = found.replace(name, here)
    return found


def told(service: Service) -> str:
    """What it says of itself, and of the autoscaler that it made."""
    kinds = "scaledobjects,horizontalpodautoscalers"
    return kubectl("get", kinds, "--namespace", service.namespace, "--output", "yaml")


def test_keda_scales_by_what_gateways_tell(service: Service, client: Client, record_property: Record) -> None:
    service.create(scaling={"mode": "External", "maxReplicas": 1}).wait_ready()
    with keda.installed():
        kubectl("apply", "-f", "-", stdin=scaled_object(service))
        soon = SOON % '"stabilizationWindowSeconds": 45'
        kubectl("patch", "scaledobject/demo", "-n", service.namespace, "--type=merge", "--patch", soon)
        kubectl("wait", "scaledobject/demo", "-n", service.namespace, "--for=condition=Ready", "--timeout=60s")
        with traffic(client, service.status()["url"], streams=STREAMS) as sent:
            service.wait(lambda: wanted(service) == MOST, f"it asks for {MOST}\n{told(service)}", 120)
            service.wait_ready(MOST)
            stays(lambda: wanted(service) == MOST, "nobody overrules it", 10, service.report)
        assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}"
        service.wait(lambda: wanted(service) == 1, f"it asks for one\n{told(service)}", 180)
        service.wait_ready(1)
    assert service.condition("ScalingActive")["reason"] == "External"
    events = [one for one in service.api.list("events", service.namespace) if one["reason"] == "ScaleOverridden"]
    assert not events
    record_property(f"replicas by KEDA and back to 1, no request of {sent.requests} lost", MOST)
