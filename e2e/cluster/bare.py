"""The bare provider: the whole cluster from its parts, on a machine without a container engine."""

from __future__ import annotations

import os
from pathlib import Path

from cluster import (
    addons,
    controlplane,
    network,
    node,
    packages,
    processes,
    programs,
    prometheus,
    registry,
    resource_metrics,
    teardown,
)
from cluster.artefact import alone, machine
from cluster.console import ClusterError, run, stage, wait_until
from cluster.controlplane import ControlPlane
from cluster.layout import NAME, REGISTRY, STATE
from cluster.node import Node

NODES = tuple(Node(STATE, number) for number in (1, 2))


def up() -> None:
    """Bring up what is not: a second call, or one after a failure or an interruption, goes on where it stands."""
    with alone(NAME, machine()):
        _require_root()
        packages.install()  # a package manager is never ended half-way: it stands outside the cluster's control group
        with processes.joined("up"):
            _up()


def _up() -> None:
    STATE.root.mkdir(parents=True, exist_ok=True)
    plane = controlplane.bare(STATE, programs.kube())
    with stage("network and image registry"):
        network.up(STATE)
        registry.up(STATE)
    with stage("images of the cluster's own pods"):
        images = addons.images()
    with stage("control plane"):
        controlplane.start_api(plane)
        controlplane.start_controllers(plane)
    with stage("names, volumes and metrics"):
        addons.apply(plane, images)
        resource_metrics.up(plane)
        prometheus.up(plane)
    pause = f"{REGISTRY}/{images.pause}"
    for one in NODES:  # one after the other, so that the first gets the first range of pod addresses
        with stage(f"{one.name} at {one.address}"):
            node.up(one, plane, pause)
    with stage("nodes ready, names answered"):
        for one in NODES:
            log = STATE.log(one.daemon("kubelet"))
            wait_until(lambda one=one: node.ready(one, plane), one.name, 90, log)  # type: ignore[misc]
        _rollouts(plane)


def down() -> None:
    """Remove it, from whatever state it is in."""
    _require_root()
    with alone(NAME, machine()):
        teardown.down(STATE)


def kubectl(*words: str) -> None:
    """Become kubectl on this cluster."""
    program = programs.kube() / "kubectl"
    os.execve(program, ["kubectl", *words], {**os.environ, "KUBECONFIG": str(STATE.kubeconfig)})


def status() -> str:
    """What runs, and the nodes as the API server sees them."""
    if not STATE.root.exists():
        return "no cluster"
    files = sorted((STATE.root / "run").glob("*.pid"))
    lines = [f"{file.stem:20} {'running' if processes.alive(STATE, file.stem) else 'ended'}" for file in files]
    if (STATE.kubeconfig).exists() and controlplane.api_ready(controlplane.bare(STATE, Path()).server, STATE.pki):
        lines.append(run(programs.kube() / "kubectl", f"--kubeconfig={STATE.kubeconfig}", "get", "nodes", "-o", "wide"))
    return "\n".join(lines)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            "The bare provider makes network namespaces and mounts.",
            "Run it as root, or use E2E_PROVIDER=kind with a Docker or Podman engine.",
        )


def _rollouts(plane: ControlPlane) -> None:
    for name, namespace in (("coredns", "kube-system"), ("local-path-provisioner", "local-path-storage")):
        run(plane.programs / "kubectl", f"--kubeconfig={STATE.kubeconfig}", "-n", namespace, "rollout", "status",
            f"deployment/{name}", "--timeout=120s")  # fmt: skip
