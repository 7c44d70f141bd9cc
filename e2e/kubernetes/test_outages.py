"""Nodes that are emptied or fall silent, and an API server that goes away and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.operator import wait_operator
from harness.programs import PROVIDER, kubectl
from harness.service import QUESTION, Service
from harness.traffic import traffic
from harness.wait import wait_for

pytestmark = pytest.mark.alone


@pytest.fixture
def uncordoned(api: Api) -> Iterator[None]:
    """Every node takes pods again when the test is done."""
    yield
    for node in api.list("nodes"):
        if node["spec"].get("unschedulable"):
            kubectl("uncordon", node["metadata"]["name"])


@pytest.mark.node_level
@pytest.mark.usefixtures("uncordoned")
def test_a_drained_node_costs_no_request(service: Service, client: Client) -> None:
    service.create(replicas=2, endpoint={"drainSeconds": 60}).wait_ready(2)
    client_node = client.wait().api.get("pods", client.namespace, client.name)["spec"]["nodeName"]
    node = next(name for pod in service.pods() if (name := pod["spec"]["nodeName"]))
    with traffic(client, service.status()["url"]) as sent:
        # The client itself may be on the node: only replicas are moved.
        kubectl("drain", node, "--pod-selector=llmservice.dev/name=demo", "--delete-emptydir-data",
                "--ignore-daemonsets", "--timeout=120s", seconds=150)  # fmt: skip
        service.wait_ready(2, seconds=120)
    assert all(pod["spec"]["nodeName"] != node for pod in service.pods())
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests} (client on {client_node}): {sent.failures[:5]}"
    assert sent.requests > 2, "nothing was sent, so nothing was shown"


@pytest.mark.node_level
@pytest.mark.usefixtures("uncordoned")
def test_the_only_replica_moves_when_its_node_is_drained(service: Service) -> None:
    """maxUnavailable 1: a service of one replica must not hold a node back for ever."""
    node = service.create(endpoint={"drainSeconds": 5}).wait_ready().pods()[0]["spec"]["nodeName"]
    kubectl("drain", node, "--pod-selector=llmservice.dev/name=demo", "--delete-emptydir-data", "--ignore-daemonsets",
            "--timeout=90s", seconds=120)  # fmt: skip
    service.wait_ready()
    assert service.pods()[0]["spec"]["nodeName"] != node


@pytest.mark.node_level
@pytest.mark.skipif(PROVIDER != "bare", reason="stops a kubelet, which only the bare provider lets it find")
def test_a_node_that_falls_silent_is_named_and_the_other_serves(
    service: Service, api: Api, images: release.Images
) -> None:
    from cluster.layout import STATE
    from cluster.processes import pid_of

    service.create(replicas=2).wait_ready(2)
    # The client is reached through its node's kubelet, and it asks for names: what it needs is not on the silent node.
    names = api.list("pods", "kube-system", "app=coredns")[0]["spec"]["nodeName"]
    client = Client(api, service.namespace, images.client, node=names).wait()
    node = next(pod["spec"]["nodeName"] for pod in service.pods() if pod["spec"]["nodeName"] != names)
    kubelet = pid_of(STATE, f"{node}-kubelet")
    assert kubelet is not None
    os.kill(kubelet, signal.SIGSTOP)
    try:
        said = service.wait_condition("Progressing", "False", "NodeNotReady", seconds=120)
        assert node in said["message"]
        assert service.condition("Ready")["status"] == "True"
        assert client.chat(service.status()["url"], QUESTION, stream=True) == trained_answer(QUESTION)
    finally:
        os.kill(kubelet, signal.SIGCONT)
    service.wait_ready(2, seconds=120)


@pytest.mark.node_level
@pytest.mark.skipif(PROVIDER != "bare", reason="stops the API server, which only the bare provider lets it find")
def test_an_api_server_that_comes_back_finds_everything_as_it_was(service: Service, client: Client, api: Api) -> None:
    from cluster import controlplane, processes, programs
    from cluster.layout import STATE

    pods = {pod["metadata"]["uid"] for pod in service.create().wait_ready().pods()}
    client.wait()
    processes.stop(STATE, "apiserver")
    controlplane.start_api(controlplane.bare(STATE, programs.kube()))
    wait_for(lambda: api.list("nodes"), "the API server answers", 60)
    wait_operator(api, seconds=180)
    assert {pod["metadata"]["uid"] for pod in service.pods()} == pods
    assert all(one["restartCount"] == 0 for pod in service.pods() for one in pod["status"]["containerStatuses"])
    service.edit(replicas=2)
    service.wait_ready(2)
    assert client.chat(service.status()["url"], QUESTION) == trained_answer(QUESTION)
