"""Replicas follow what is asked: from none to several and back to none, and no request fails on the way."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.operator import kill, leader
from harness.programs import kubectl
from harness.service import QUESTION, Service
from harness.traffic import traffic

URL = f"http://{release.NAME}-gateway.{release.NAMESPACE}.svc.cluster.local/v1"
BOUNDS = {"minReplicas": 0, "maxReplicas": 3, "idleSeconds": 15, "scaleDownSeconds": 10}
STREAMS = 6


class Asked(threading.Thread):
    """A request on its way."""

    def __init__(self, client: Client, service: Service) -> None:
        super().__init__()
        self._client, self._model = client, f"{service.namespace}/demo"
        self.found: dict[str, Any] = {}
        self.start()

    def run(self) -> None:
        self.found = self._client.run("ask", URL, self._model, QUESTION, seconds=300)


def wanted(service: Service) -> int:
    found: int = service.object()["spec"]["replicas"]
    return found


def idle(service: Service) -> None:
    """Nobody asks, so none is left."""
    service.wait_condition("Ready", "True", "Idle", seconds=180)
    service.wait(lambda: not service.pods(), "no replica is left", 120)


def explained(service: Service) -> dict[str, Any]:
    """What the operator says, as `llmservice explain` asks it."""
    path = (
        f"/api/v1/namespaces/{release.NAMESPACE}/pods/{leader(service.api)}:8081/proxy/scaling/{service.namespace}/demo"
    )
    found: dict[str, Any] = json.loads(kubectl("get", "--raw", path))
    return found


def test_from_none_to_several_and_back_and_no_request_fails(service: Service, client: Client) -> None:
    service.create(scaling={**BOUNDS, "target": {"requestsPerReplica": 2}}).wait_ready()
    idle(service)
    asked = Asked(client, service)
    asked.join()
    assert (asked.found["status"], asked.found["answer"]) == (200, trained_answer(QUESTION)), asked.found
    with traffic(client, service.status()["url"], STREAMS) as sent:
        service.wait(lambda: wanted(service) == 3, "three are wanted", 60)
        service.wait(lambda: service.status().get("readyReplicas") == 3, "three serve", 120)
        told = explained(service)
        assert told["replicas"] == 3 and told["signals"][0]["name"] == "requests", told
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}"
    idle(service)
    changes = [(one["before"], one["replicas"]) for one in explained(service)["changes"]]
    assert changes[-1][1] == 0 and (0, 1) in changes, changes


@pytest.mark.alone
def test_a_leader_that_dies_while_a_request_is_held_is_followed_by_one_that_wakes(
    service: Service, client: Client, api: Api
) -> None:
    service.create(replicas=0, scaling=BOUNDS)
    idle(service)
    kill(api, leader(api))
    began = time.monotonic()
    asked = Asked(client, service)
    service.wait(lambda: wanted(service) == 1, "another leader wakes it", 120)
    woken = time.monotonic() - began
    asked.join()
    assert asked.found["status"] == 200, f"woken after {woken:.0f} s: {asked.found}"
