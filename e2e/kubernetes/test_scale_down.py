"""Which replicas go when some are too many: those that have nothing to do. By dice, which one is busy."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from harness.api import Json
from harness.chat import Client
from harness.demand import wanted
from harness.programs import kubectl
from harness.service import Service
from harness.traffic import traffic

RUNS, PODS = 20, 5
PLENTY = {"requestsPerReplica": 1000}
Record = Callable[[str, object], None]


@pytest.mark.long
def test_the_busy_one_of_five_stays(service: Service, client: Client, record_property: Record) -> None:
    dice, busy_stayed = random.Random(1), 0
    bounds = {"minReplicas": PODS, "maxReplicas": PODS, "scaleDownSeconds": 1, "target": PLENTY}
    service.create(scaling=bounds, replicas=PODS, endpoint={"access": "Direct", "drainSeconds": 60})
    for _ in range(RUNS):
        service.edit(scaling={"minReplicas": PODS})
        service.wait_ready(PODS, seconds=180)
        busy = dice.choice(service.pods())
        with traffic(client, f"http://{busy['status']['podIP']}:8000/v1") as sent:
            service.wait(lambda busy=busy: running(service, busy) > 1, "it has something to do")  # type: ignore[misc]
            service.edit(scaling={"minReplicas": 1})
            service.wait(lambda: wanted(service) == 1, "one is wanted")
            service.wait(lambda: len(service.pods()) == 1, "the others have ended", 120)
        (left,) = service.pods()
        assert not sent.failures or left["metadata"]["name"] != busy["metadata"]["name"], sent.failures
        busy_stayed += left["metadata"]["name"] == busy["metadata"]["name"]
    record_property(f"of {RUNS} times that four of five ended, the busy one stayed", busy_stayed)
    assert busy_stayed == RUNS


def running(service: Service, pod: Json) -> int:
    """Requests that a replica has, as its supervisor tells."""
    path = f"/api/v1/namespaces/{service.namespace}/pods/{pod['metadata']['name']}:8001/proxy/status"
    found: int = json.loads(kubectl("get", "--raw", path))["running"]
    return found
