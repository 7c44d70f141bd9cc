"""A cluster that somebody else made: $E2E_KUBECONFIG (or $KUBECONFIG) names it, $E2E_REGISTRY takes our images."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.console import ClusterError, run
from cluster.programs import kube


def kubeconfig() -> Path:
    """Named by hand, so that no test ever runs on whatever ~/.kube/config points at."""
    path = os.environ.get("E2E_KUBECONFIG") or os.environ.get("KUBECONFIG")
    if not path:
        raise ClusterError("The provider `existing` needs a kubeconfig.", "Set E2E_KUBECONFIG to its path.")
    return Path(path)


def registry() -> str:
    """Where the cluster pulls our images from."""
    if name := os.environ.get("E2E_REGISTRY"):
        return name
    raise ClusterError("The provider `existing` needs an image registry.", "Set E2E_REGISTRY to host:port/path.")


def check() -> None:
    """Nothing is brought up; the cluster must answer."""
    registry()
    run(kube() / "kubectl", f"--kubeconfig={kubeconfig()}", "get", "--raw", "/readyz")


def leave() -> None:
    """Nothing is removed."""
