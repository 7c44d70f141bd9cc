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

PRUNE = """
import os
from pathlib import Path
from llmservice_runtime.contract.in_use import mark, mark_of
from llmservice_runtime.sources.kept import kept_models
from llmservice_runtime.sources.room import Room
cache = Path("/node")
old = cache / "models/hf/acme--old/c0ffee"
old.mkdir(parents=True)
(old / "model.gguf").write_bytes(b"x")
mark(old, "hf://acme/old")
for kept in kept_models(cache):
    os.utime(mark_of(kept.folder), (1, 1))
Room(cache).make(cache, 1 << 60)
left = [kept.uri for kept in kept_models(cache)]
assert len(left) == 1 and left[0].endswith("/demo.gguf"), left
"""
"""Makes as much room as it can, where every model is old."""


def on_every_node(api: Api, namespace: str, name: str, container: dict[str, object]) -> None:
    """Run a container in the nodes' directory to its end, on each of them."""
    volume = {"name": "node", "hostPath": {"path": release.NODE_MODELS, "type": "DirectoryOrCreate"}}
    whole = {"name": name, "volumeMounts": [{"name": "node", "mountPath": "/node"}], **container}
    pods = {f"{name}-{node['metadata']['name']}": node["metadata"]["name"] for node in api.list("nodes")}
    for pod, node in pods.items():
        spec = {"nodeName": node, "restartPolicy": "Never", "containers": [whole], "volumes": [volume]}
        api.create("pods", namespace, {"metadata": {"name": pod}, "spec": spec})

    def phases() -> set[str]:
        return {api.get("pods", namespace, pod)["status"]["phase"] for pod in pods}

    wait_for(lambda: phases() <= {"Succeeded", "Failed"}, f"{name} has ended", 60)
    assert phases() == {"Succeeded"}, [api.get("pods", namespace, pod)["status"] for pod in pods]


def make_directories(api: Api, namespace: str, image: str) -> None:
    """What an administrator does on every node: mkdir -p, and chown to the pods' user."""
    command = ["python3", "-c", f"import os; os.chown('/node', {USER}, {USER})"]
    root = {"runAsUser": 0}
    on_every_node(api, namespace, "make", {"image": image, "command": command, "securityContext": root})


def prune(api: Api, namespace: str, image: str) -> None:
    """What a download does that finds no room, with the runtime's own Python."""
    python = "$(sed -n '1s/^#!//p' $(command -v llmservice-runtime))"
    command = ["sh", "-c", f'exec {python} -c "$PRUNE"']
    user = {"runAsUser": USER, "runAsGroup": USER}
    env = [{"name": "PRUNE", "value": PRUNE}]
    container = {"image": image, "command": command, "securityContext": user, "env": env}
    on_every_node(api, namespace, "prune", {**container, "terminationMessagePolicy": "FallbackToLogsOnError"})


def test_what_a_node_keeps_needs_no_download_again(api: Api, service: Service, images: release.Images) -> None:
    make_directories(api, service.namespace, images.runtime)
    hub = start_hub(api, service.namespace, images.runtime)
    nodes = len(api.list("nodes"))
    service.create(
        f"{hub}/demo.gguf", cache={"type": "HostPath", "hostPath": {"path": release.NODE_MODELS}}, replicas=nodes
    ).wait_ready(nodes, seconds=180)
    assert release.NODE_MODELS in service.wait_condition("Cached", "True", "PerNode")["message"]
    assert len({pod["spec"]["nodeName"] for pod in service.pods()}) == nodes

    prune(api, service.namespace, images.runtime)  # what replicas run stays, although they only read the directory

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
