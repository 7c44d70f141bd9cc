"""The gateway in front of services: one URL for all of them, requests that wait, and its own end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.operator import kill
from harness.programs import kubectl
from harness.service import QUESTION, Service
from harness.traffic import traffic

NAME = f"{release.NAME}-gateway"
URL = f"http://{NAME}.{release.NAMESPACE}.svc.cluster.local/v1"
PODS = "app.kubernetes.io/component=gateway"
STREAMS = 4


def ask(client: Client, url: str, model: str) -> dict[str, Any]:
    """One request, which may wait for minutes."""
    found: dict[str, Any] = client.run("ask", url, model, QUESTION, seconds=300)
    return found


def is_ready(pod: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


class Asked(threading.Thread):
    """A request on its way."""

    def __init__(self, client: Client, url: str, model: str) -> None:
        super().__init__()
        self._words = client, url, model
        self.found: dict[str, Any] = {}
        self.start()

    def run(self) -> None:
        self.found = ask(*self._words)


def leases(api: Api) -> list[dict[str, Any]]:
    return api.list("leases", release.NAMESPACE, PODS)


def demand(api: Api, service: Service) -> str:
    """What all gateways together say of it."""
    texts = [lease["metadata"]["annotations"]["llmservice.dev/demand"] for lease in leases(api)]
    return " ".join(text for text in texts if f'"{service.namespace}/demo"' in text)


def test_one_url_for_every_service(service: Service, client: Client, make_namespace: Callable[[], str]) -> None:
    other = Service(service.api, make_namespace())
    for each in (service, other):
        each.create()
    for each in (service, other):
        each.wait_ready()
        for url, model in ((URL, f"{each.namespace}/demo"), (each.status()["url"], "demo")):
            found = ask(client, url, model)
            assert (found["status"], found["answer"]) == (200, trained_answer(QUESTION)), found
    assert service.status()["url"] == f"{URL.removesuffix('/v1')}/{service.namespace}/demo/v1"
    assert ask(client, URL, "nobody/demo")["code"] == "model_not_found"
    other.delete()
    service.wait(lambda: ask(client, URL, f"{other.namespace}/demo")["code"] == "model_not_found", "it is gone")


def test_every_gateway_has_a_lease_and_only_those_that_live(api: Api, service: Service) -> None:
    def holds() -> bool:
        pods = {pod["metadata"]["name"] for pod in api.list("pods", release.NAMESPACE, PODS)}
        return pods == {lease["metadata"]["name"] for lease in leases(api)}

    service.wait(holds, "a Lease for each gateway")


def test_a_stop_is_told_at_once_and_a_start_is_waited_for(service: Service, client: Client, api: Api) -> None:
    name = f"{service.namespace}/demo"
    service.create(replicas=0).wait_condition("Ready", "False", "Stopped")
    found = ask(client, URL, name)
    assert (found["status"], found["code"]) == (503, "Stopped") and found["seconds"] < 10
    kubectl("--namespace", service.namespace, "scale", "llmsvc/demo", "--replicas=1")
    asked = Asked(client, URL, name)
    service.wait(lambda: '"held":1' in demand(api, service), "the Lease tells of it")
    asked.join()
    assert (asked.found["status"], asked.found["answer"]) == (200, trained_answer(QUESTION)), asked.found


@pytest.mark.alone
def test_a_gateway_that_is_replaced_costs_no_request_and_one_that_dies_only_its_own(
    service: Service, client: Client, api: Api
) -> None:
    service.create(replicas=2).wait_ready(2)
    with traffic(client, service.status()["url"], STREAMS) as sent:
        kubectl("--namespace", release.NAMESPACE, "rollout", "restart", f"deployment/{NAME}")
        kubectl("--namespace", release.NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=180s")

        def ended() -> bool:
            return len(api.list("pods", release.NAMESPACE, PODS)) == 2

        service.wait(ended, "the old ones are gone", 120)
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}"
    kubectl("--namespace", client.namespace, "exec", client.name, "--", "rm", "/tmp/stop")
    with traffic(client, service.status()["url"], STREAMS) as sent:
        dead = api.list("pods", release.NAMESPACE, PODS)[0]["metadata"]["name"]
        kill(api, dead)

        def replaced() -> bool:
            pods = api.list("pods", release.NAMESPACE, PODS)
            return len([pod for pod in pods if pod["metadata"]["name"] != dead and is_ready(pod)]) == 2

        service.wait(replaced, "another one is ready", 180)
    words = ("refused", "timed out", "no route")  # until the dead pod is known to be gone, some still go there
    broken = [failure for failure in sent.failures if not any(word in failure.lower() for word in words)]
    assert len(broken) <= STREAMS, sent.failures
    assert sent.requests > len(sent.failures), sent.failures


@pytest.mark.alone
def test_with_the_operator_gone_requests_are_served(service: Service, client: Client, api: Api) -> None:
    service.create().wait_ready()
    name = ("--namespace", release.NAMESPACE, "scale", f"deployment/{release.NAME}")
    replicas = api.get("deployments", release.NAMESPACE, release.NAME)["spec"]["replicas"]
    kubectl(*name, "--replicas=0")
    try:
        pods = "app.kubernetes.io/name=llmservice-operator"
        service.wait(lambda: not api.list("pods", release.NAMESPACE, pods), "no operator")
        assert ask(client, URL, f"{service.namespace}/demo")["status"] == 200
    finally:
        kubectl(*name, f"--replicas={replicas}")
