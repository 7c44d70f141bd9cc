"""The gateway in front of services: one URL for all of them, requests that wait, and its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.demand import GATEWAY, PODS, URL, Asked, Running, ask, held, leases
from harness.operator import kill
from harness.programs import kubectl
from harness.service import QUESTION, Service
from harness.traffic import traffic

STREAMS = 4
MANY = 50
EXTERNAL = {"mode": "External", "maxReplicas": 1}
"""Nobody scales it: what is asked of it at none waits."""
LARGE, MEGABYTES, BOUND_MB = 500, 2, 400
"""Requests, of so many megabytes each, and what a gateway may take."""
FULL = 200
"""As many wait then: nearly 128 at each of two gateways, as what is sent in part takes room too."""
POISON = "Please end the engine."
DEADLY = f"""
import json, os, signal
loads = json.loads
def deadly(text, *words, **named):
    if ({POISON!r} if isinstance(text, str) else {POISON.encode()!r}) in text:
        os.killpg(0, signal.SIGKILL)  # the engine has a process group of its own
    return loads(text, *words, **named)
json.loads = deadly
"""
"""A bug that ends the engine, in whatever Python it runs in: `sitecustomize`."""


def is_ready(pod: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


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
    name = service.full_name
    service.create(replicas=0).wait_condition("Ready", "False", "Stopped")
    found = ask(client, URL, name)
    assert (found["status"], found["code"]) == (503, "Stopped") and found["seconds"] < 10
    kubectl("--namespace", service.namespace, "scale", "llmsvc/demo", "--replicas=1")
    asked = Asked(client, name)
    service.wait(lambda: held(api, service) == 1, "the Lease tells of it")
    asked.join()
    assert (asked.found["status"], asked.found["answer"]) == (200, trained_answer(QUESTION)), asked.found


@pytest.mark.alone
def test_a_gateway_that_is_replaced_costs_no_request_and_one_that_dies_only_its_own(
    service: Service, client: Client, api: Api
) -> None:
    service.create(replicas=2).wait_ready(2)
    with traffic(client, service.status()["url"], STREAMS) as sent:
        kubectl("--namespace", release.NAMESPACE, "rollout", "restart", f"deployment/{GATEWAY}")
        kubectl("--namespace", release.NAMESPACE, "rollout", "status", f"deployment/{GATEWAY}", "--timeout=180s")

        def ended() -> bool:
            return len(api.list("pods", release.NAMESPACE, PODS)) == 2

        service.wait(ended, "the old ones are gone", 120)
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}"
    with traffic(client, service.status()["url"], MANY) as sent:
        dead = api.list("pods", release.NAMESPACE, PODS)[0]["metadata"]["name"]
        kill(api, dead)

        def replaced() -> bool:
            pods = api.list("pods", release.NAMESPACE, PODS)
            return len([pod for pod in pods if pod["metadata"]["name"] != dead and is_ready(pod)]) == 2

        service.wait(replaced, "another one is ready", 180)
    words = ("refused", "timed out", "no route")  # until the dead pod is known to be gone, some still go there
    broken = [failure for failure in sent.failures if not any(word in failure.lower() for word in words)]
    assert len(broken) <= MANY, sent.failures
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


@pytest.mark.alone
def test_large_requests_to_none_take_little_of_a_gateway_and_end_with_their_service(
    service: Service, client: Client, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    service.create(replicas=0, scaling=EXTERNAL, endpoint={"maxQueuedRequests": 2 * LARGE})
    service.wait_condition("Ready", "True", "Idle")
    asked = Running(client.wait(), "many", URL, service.full_name, str(LARGE), str(MEGABYTES << 20))
    service.wait(lambda: held(api, service) >= FULL, "both hold what they may", 120)
    there = [pod for pod in api.list("pods", release.NAMESPACE, PODS) if "deletionTimestamp" not in pod["metadata"]]
    peaks = [peak(pod["metadata"]["name"]) for pod in there]
    service.delete()
    asked.join()
    with capsys.disabled():
        print(f"\n{LARGE} requests of {MEGABYTES} MiB: at most {peaks} MB in the gateways; {asked.found}")
    assert len(peaks) == 2 and all(0 < one < BOUND_MB for one in peaks), peaks
    assert sum(asked.found.values()) == LARGE and asked.found["404 model_not_found"] >= FULL, asked.found


def peak(pod: str) -> int:
    """MB that a gateway ever had, without the process that reads names in large bodies for it (50 at most)."""
    told = kubectl("--namespace", release.NAMESPACE, "exec", pod, "--", "cat", "/proc/1/status")
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM:")) * 1024 // 10**6


def test_a_request_that_ends_its_engine_costs_two_replicas_at_most(service: Service, client: Client, api: Api) -> None:
    api.create("configmaps", service.namespace, {"metadata": {"name": "bug"}, "data": {"sitecustomize.py": DEADLY}})
    mounted = [{"name": "runtime", "volumeMounts": [{"name": "bug", "mountPath": "/bug"}]}]
    volumes = [{"name": "bug", "configMap": {"name": "bug"}}]
    service.create(
        replicas=3,
        engine={"env": [{"name": "PYTHONPATH", "value": "/bug"}]},
        podTemplate={"spec": {"containers": mounted, "volumes": volumes}},
    ).wait_ready(3)
    found = ask(client, URL, service.full_name, POISON)
    assert (found["status"], found["code"]) == (422, "request_quarantined"), found
    service.wait(lambda: restarts(service) == 2, "two engines came back")
    service.wait_ready(3)
    assert restarts(service) == 2
    assert ask(client, URL, service.full_name)["answer"] == trained_answer(QUESTION)


def restarts(service: Service) -> int:
    return sum(one["restartCount"] for pod in service.pods() for one in pod["status"]["containerStatuses"])
