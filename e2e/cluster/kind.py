"""The kind provider: two nodes as containers of Docker or Podman."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from cluster.artefact import alone, machine
from cluster.console import ClusterError, run, stage
from cluster.layout import NAME, cache
from cluster.programs import kube


def engine() -> str | None:
    """The container engine that answers: docker, podman, or none."""
    for name in ("docker", "podman"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    return None


def possible() -> bool:
    """Whether kind is installed and has an engine."""
    return shutil.which("kind") is not None and engine() is not None


def kubeconfig() -> Path:
    """Its own file: ~/.kube/config is not touched."""
    return cache() / f"kind-{NAME}" / "kubeconfig"


def configuration() -> dict[str, object]:
    """kind's own configuration: a control plane that also runs pods, and a worker."""
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": NAME,
        "nodes": [{"role": "control-plane"}, {"role": "worker"}],
    }


def up() -> None:
    """Create the cluster unless kind lists it; whoever asks meanwhile waits."""
    with alone(NAME, machine()):
        _up()


def _up() -> None:
    folder = kubeconfig().parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kind.json").write_text(json.dumps(configuration()))
    if exists():
        _kind("export", "kubeconfig", "--name", NAME, "--kubeconfig", kubeconfig())
    else:
        with stage("kind cluster"):  # of the Kubernetes that this kind is made for: no other node image surely exists
            _kind("create", "cluster", "--config", folder / "kind.json", "--kubeconfig", kubeconfig(), "--wait", "180s")
    # kind takes the control plane's taint away only where that is the only node.
    kubectl, node = kube() / "kubectl", f"{NAME}-control-plane"
    run(kubectl, f"--kubeconfig={kubeconfig()}", "patch", "node", node, '--patch={"spec":{"taints":null}}')


def exists() -> bool:
    """Whether kind lists it."""
    return NAME in _kind("get", "clusters").split()


def down() -> None:
    """Delete it; nothing happens when there is none."""
    with alone(NAME, machine()):
        _kind("delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig())
        kubeconfig().unlink(missing_ok=True)


def load(archive: Path) -> None:
    """Put an image from an archive on every node."""
    _kind("load", "image-archive", archive, "--name", NAME)


def _kind(*words: str | Path) -> str:
    """Run kind on the engine that answers: left alone it takes the first one that is installed."""
    answering = engine()
    if answering is None or shutil.which("kind") is None:
        raise ClusterError("kind or its container engine is missing.", "Install both, or use E2E_PROVIDER=bare.")
    return run("kind", *words, env={"KIND_EXPERIMENTAL_PROVIDER": answering})
