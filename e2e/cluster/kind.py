"""The kind provider: two nodes as containers of Docker or Podman."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from cluster.console import ClusterError, run, stage
from cluster.layout import NAME, cache
from cluster.programs import KUBERNETES


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
    """Create the cluster unless kind lists it."""
    _require()
    folder = kubeconfig().parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kind.json").write_text(json.dumps(configuration()))
    if NAME in run("kind", "get", "clusters").split():
        run("kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", kubeconfig())
        return
    with stage(f"kind cluster of Kubernetes {KUBERNETES}"):
        image = f"kindest/node:v{KUBERNETES}"
        run("kind", "create", "cluster", "--config", folder / "kind.json", "--kubeconfig", kubeconfig(),
            "--image", image, "--wait", "120s")  # fmt: skip


def down() -> None:
    """Delete it; nothing happens when there is none."""
    _require()
    run("kind", "delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig())
    kubeconfig().unlink(missing_ok=True)


def load(archive: Path) -> None:
    """Put an image from an archive on every node."""
    _require()
    run("kind", "load", "image-archive", archive, "--name", NAME)


def _require() -> None:
    if not possible():
        raise ClusterError("kind or its container engine is missing.", "Install both, or use E2E_PROVIDER=bare.")
