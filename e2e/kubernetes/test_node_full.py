"""A node's directory that has room for one model of two: what nobody uses goes for the next, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness import release
from harness.api import Api
from harness.hub import start_hub
from harness.service import Service
from harness.wait import wait_for

USER = 65532
"""The user of the runtime's image."""
SIZE = "160m"
"""large.gguf has 48 MiB and more, and 64 MiB stay free beside a download."""
AGED = """
import os
from pathlib import Path
from llmservice_runtime.contract.in_use import mark_of
from llmservice_runtime.sources.kept import kept_models
for kept in kept_models(Path("/node")):
    os.utime(mark_of(kept.folder), (1, 1))
"""
"""As if hours had gone by."""
ONLY = """
from pathlib import Path
from llmservice_runtime.sources.kept import kept_models
left = [kept.uri.rpartition("/")[2] for kept in kept_models(Path("/node"))]
assert left == ["another.gguf"], left
"""


class Disk:
    """The directory on one node, reached by pods of a namespace."""

    def __init__(self, api: Api, namespace: str, image: str) -> None:
        self.api, self.namespace, self.image = api, namespace, image
        self.node = str(api.list("nodes")[0]["metadata"]["name"])

    def run(self, name: str, command: list[str], **container: Any) -> None:
        """To its end, on the node."""
        propagation = (
            {"mountPropagation": "Bidirectional"} if container.get("securityContext", {}).get("privileged") else {}
        )
        volume = {"name": "node", "hostPath": {"path": release.NODE_SMALL, "type": "DirectoryOrCreate"}}
        whole = {
            "name": name, "image": self.image, "command": command, "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "node", "mountPath": "/node", **propagation}], **container,
        }  # fmt: skip
        spec = {"nodeName": self.node, "restartPolicy": "Never", "containers": [whole], "volumes": [volume]}
        self.api.create("pods", self.namespace, {"metadata": {"name": name}, "spec": spec})

        def phase() -> str:
            return str(self.api.get("pods", self.namespace, name)["status"].get("phase"))

        wait_for(lambda: phase() in ("Succeeded", "Failed"), f"{name} has ended", 240)
        assert phase() == "Succeeded", self.api.get("pods", self.namespace, name)["status"]

    def root(self, name: str, script: str) -> None:
        """A script as root of the node."""
        self.run(name, ["sh", "-ec", script], securityContext={"runAsUser": 0, "privileged": True})

    def python(self, name: str, program: str) -> None:
        """A program with the runtime's own Python, as its user."""
        python = "$(sed -n '1s/^#!//p' $(command -v llmservice-runtime))"
        user = {"runAsUser": USER, "runAsGroup": USER}
        env = [{"name": "PROGRAM", "value": program}]
        self.run(name, ["sh", "-c", f'exec {python} -c "$PROGRAM"'], securityContext=user, env=env)


@pytest.fixture
def disk(api: Api, service: Service, images: release.Images) -> Iterator[Disk]:
    found = Disk(api, service.namespace, images.runtime)
    found.root("mount", f"mount -t tmpfs -o size={SIZE} tmpfs /node && chown {USER}:{USER} /node")
    yield found
    found.root("umount", "umount -l /node")


@pytest.mark.node_level
def test_a_model_that_nobody_uses_goes_for_the_next_and_one_in_use_stays(
    api: Api, service: Service, images: release.Images, disk: Disk
) -> None:
    hub = start_hub(api, service.namespace, images.runtime)
    fields = {
        "cache": {"type": "HostPath", "hostPath": {"path": release.NODE_SMALL}},
        "podTemplate": {"spec": {"nodeSelector": {"kubernetes.io/hostname": disk.node}}},
    }
    first, second = (Service(api, service.namespace, name) for name in ("first", "second"))
    first.create(f"{hub}/large.gguf", **fields).wait_ready(seconds=240)
    disk.python("age", AGED)

    second.create(f"{hub}/another.gguf", **fields)
    told = second.wait_condition("Ready", "False", "DiskFull", seconds=240)
    assert "1 in use" in told["message"]
    assert first.condition("Ready")["status"] == "True"

    first.delete()
    first.wait(lambda: not first.pods(), "no replica of it is left", 120)
    disk.python("age-again", AGED)
    second.wait_ready(seconds=400)
    disk.python("only", ONLY)
