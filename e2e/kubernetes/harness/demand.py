"""Requests through the gateway, and what scaling makes of them."""

from __future__ import annotations

import json
import threading
from typing import Any

from harness import release
from harness.api import Api, Json
from harness.chat import Client
from harness.operator import leader
from harness.programs import kubectl
from harness.service import QUESTION, Service

GATEWAY = f"{release.NAME}-gateway"
URL = f"http://{GATEWAY}.{release.NAMESPACE}.svc.cluster.local/v1"
PODS = "app.kubernetes.io/component=gateway"


def ask(client: Client, url: str, model: str, question: str = QUESTION) -> dict[str, Any]:
    """One request, which may wait for minutes."""
    found: dict[str, Any] = client.run("ask", url, model, question, seconds=300)
    return found


class Running(threading.Thread):
    """A program of ../client on its way; `found` is what it printed, once it is joined."""

    def __init__(self, client: Client, program: str, *arguments: str) -> None:
        super().__init__()
        self._client, self._program, self._arguments = client, program, arguments
        self.found: dict[str, Any] = {}
        self.start()

    def run(self) -> None:
        self.found = self._client.run(self._program, *self._arguments, seconds=300)


class Asked(Running):
    """A request on its way."""

    def __init__(self, client: Client, model: str, url: str = URL) -> None:
        super().__init__(client, "ask", url, model, QUESTION)


def leases(api: Api) -> list[Json]:
    """One for each gateway."""
    return api.list("leases", release.NAMESPACE, PODS)


def demand(api: Api, service: Service) -> list[Json]:
    """What each gateway that has requests for it says of it."""
    texts = [lease["metadata"]["annotations"]["llmservice.dev/demand"] for lease in leases(api)]
    told = [json.loads(text).get(f"{service.namespace}/{service.name}") for text in texts]
    return [one for one in told if one]


def held(api: Api, service: Service) -> int:
    """Requests that wait at gateways."""
    return sum(one.get("held", 0) for one in demand(api, service))


def wanted(service: Service) -> int:
    """Replicas that are asked for."""
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
