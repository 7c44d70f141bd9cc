"""No room, and GPUs that nodes advertise: what the scheduler and an autoscaler say decides how a rollout goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from harness import release
from harness.api import Api, Json
from harness.service import Service
from harness.wait import stays

GPU = "nvidia.com/gpu"
LABELS = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034", "nvidia.com/gpu.count": "2"}
IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}


def more_than_half(api: Api) -> str:
    """So much memory that a node takes one replica and not two."""
    smallest = min(_kibibytes(node["status"]["allocatable"]["memory"]) for node in api.list("nodes"))
    return f"{smallest * 55 // 100}Ki"


def _kibibytes(text: str) -> int:
    """As kubelets write it: 24479284Ki, or plain bytes."""
    return int(text.removesuffix("Ki")) if text.endswith("Ki") else int(text) >> 10


def strategy(service: Service) -> Json:
    """How the Deployment replaces replicas now."""
    found: Json = service.api.get("deployments", service.namespace, service.name)["spec"]["strategy"]["rollingUpdate"]
    return found


def autoscaler_says(service: Service, pod: Json, reason: str, message: str) -> None:
    """An Event about a pod as the Cluster Autoscaler writes it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": service.namespace}
    body = {
        "metadata": {"generateName": "autoscaler-", "namespace": service.namespace},
        "involvedObject": {**about, "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]},
        "type": "Normal",
        "reason": reason,
        "message": message,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": "cluster-autoscaler"},
    }
    service.api.create("events", service.namespace, body)


def test_a_rollout_waits_for_a_node_that_comes_and_else_replaces_in_place(api: Api, service: Service) -> None:
    nodes = len(api.list("nodes"))
    full = {"requests": {"cpu": "20m", "memory": more_than_half(api)}}
    service.create(replicas=nodes, resources=full, endpoint={"drainSeconds": 5}).wait_ready(nodes, seconds=180)
    service.edit(contextTokens=512)
    surge = service.wait(
        lambda: next((p for p in service.pods() if "nodeName" not in p["spec"]), None), "a surge replica"
    )
    autoscaler_says(service, surge, "TriggeredScaleUp", "pod triggered scale-up: [{cpu 2->3 (max: 4)}]")
    waits = service.wait_condition("Scheduled", "Unknown", "AddingNode")
    assert "cpu 2->3" in waits["message"]
    stays(lambda: strategy(service)["maxUnavailable"] == 0, "the rollout waits for the node", 70, service.report)
    assert service.condition("Ready")["status"] == "True"

    autoscaler_says(service, surge, "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")
    service.wait_condition("Progressing", "True", "ReplacingInPlace", seconds=60)
    assert strategy(service) == IN_PLACE
    service.wait_ready(nodes, seconds=240)
    told = [one["reason"] for one in api.list("events", service.namespace) if one["type"] == "Warning"]
    assert "ReplacingInPlace" in told


@pytest.fixture
def gpu_node(api: Api, installed: release.Values) -> Iterator[str]:
    """The name of a node that says it has two GPUs; the operator knows of it."""
    name = str(api.list("nodes")[-1]["metadata"]["name"])
    advertise(api, name, "2", LABELS)
    release.restart()
    yield name
    advertise(api, name, None, dict.fromkeys(LABELS))
    release.restart()


def advertise(api: Api, node: str, count: str | None, labels: dict[str, str | None] | dict[str, str]) -> None:
    """Write a node's capacity, as a device plugin has the kubelet do it, and its labels."""
    status = {"status": {"capacity": {GPU: count}, "allocatable": {GPU: count}}}
    api.patch("nodes", "", node, status, sub="status")
    api.patch("nodes", "", node, {"metadata": {"labels": labels}})


@pytest.mark.alone
@pytest.mark.node_level
def test_gpus_of_a_node_are_planned_with(api: Api, service: Service, gpu_node: str) -> None:
    service.create(accelerator={"count": 1}, resources={"requests": {"cpu": "20m"}})
    planned = service.wait_condition("Planned", "True", "Fits")
    assert "1 × L4" in planned["message"]
    pod = service.wait(lambda: next((p for p in service.pods() if p["spec"].get("nodeName")), None), "a scheduled pod")
    assert pod["spec"]["nodeName"] == gpu_node
    assert pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"

    larger = Service(api, service.namespace, "larger").create(accelerator={"count": 4})
    refused = larger.wait_condition("Planned", "False", "BadArgument")
    assert "there is 2 × L4" in refused["message"]
    assert larger.wait_condition("Ready", "False", "BadArgument")
    assert not larger.pods()
