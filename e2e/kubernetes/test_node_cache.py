"""Models that a node keeps in a directory of its own, for replicas that come later."""

from __future__ import annotations

from harness import release
from harness.api import Api
from harness.hub import NAME as HUB
from harness.hub import start_hub
from harness.service import Service
from harness.wait import wait_for

USER = 65532
"""The user of the runtime's image."""


def make_directories(api: Api, namespace: str, image: str) -> None:
    """What an administrator does on every node: mkdir -p, and chown to the pods' user."""
    volume = {"name": "node", "hostPath": {"path": release.NODE_MODELS, "type": "DirectoryOrCreate"}}
    container = {
        "name": "make",
        "image": image,
        "command": ["python3", "-c", f"import os; os.chown('/node', {USER}, {USER})"],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "node", "mountPath": "/node"}],
    }
    pods = [f"make-{node['metadata']['name']}" for node in api.list("nodes")]
    for pod in pods:
        spec = {
            "nodeName": pod.removeprefix("make-"),
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": [volume],
        }
        api.create("pods", namespace, {"metadata": {"name": pod}, "spec": spec})
    for pod in pods:
        done = lambda pod=pod: api.get("pods", namespace, pod)["status"]["phase"] == "Succeeded"  # noqa: E731
        wait_for(done, f"{pod} has made the directory", 60)


def test_what_a_node_keeps_needs_no_download_again(api: Api, service: Service, images: release.Images) -> None:
    make_directories(api, service.namespace, images.runtime)
    hub = start_hub(api, service.namespace, images.runtime)
    nodes = len(api.list("nodes"))
    service.create(
        f"{hub}/demo.gguf", cache={"type": "HostPath", "hostPath": {"path": release.NODE_MODELS}}, replicas=nodes
    ).wait_ready(nodes, seconds=180)
    assert release.NODE_MODELS in service.wait_condition("Cached", "True", "PerNode")["message"]
    assert len({pod["spec"]["nodeName"] for pod in service.pods()}) == nodes

    before = {pod["metadata"]["uid"] for pod in service.pods()}
    api.delete("pods", service.namespace, HUB)
    for pod in service.pods():
        api.delete("pods", service.namespace, pod["metadata"]["name"])
    service.wait(lambda: before.isdisjoint(pod["metadata"]["uid"] for pod in service.pods()), "other replicas")
    service.wait_ready(nodes, seconds=180)


def test_a_directory_that_is_not_there_or_not_lent_is_named(service: Service, api: Api, images: release.Images) -> None:
    hub = start_hub(api, service.namespace, images.runtime)
    elsewhere = {"type": "HostPath", "hostPath": {"path": "/etc"}}
    refused = Service(api, service.namespace, "refused").create(f"{hub}/demo.gguf", cache=elsewhere)
    assert "runtime.hostPaths" in refused.wait_condition("SpecValid", "False", "Invalid")["message"]
    missing = {"type": "HostPath", "hostPath": {"path": release.NODE_MISSING}}
    service.create(f"{hub}/demo.gguf", cache=missing)
    found = service.wait_condition("Ready", "False", "VolumeFailed", seconds=180)
    assert f"mkdir -p {release.NODE_MISSING}" in found["message"]
    assert str(USER) in found["message"]
