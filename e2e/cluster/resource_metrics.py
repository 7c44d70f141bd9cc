"""metrics-server as a process of this machine: what pods use of processors and memory, for HPAs and `kubectl top`."""

from __future__ import annotations

from pathlib import Path

from cluster import layout, programs
from cluster.console import run
from cluster.controlplane import DAEMONS, ControlPlane
from cluster.layout import HERE
from cluster.processes import start

NAME = "metrics-server"
PORT = 10280 + layout.INSTANCE


def up(plane: ControlPlane) -> None:
    """Start it, and have the API server pass questions on to it. It has answers once it has read the kubelets twice."""
    state, folder = plane.state, plane.state.pki
    files = dict.fromkeys(("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"), state.kubeconfig)
    command: list[str | Path] = [
        programs.build(programs.METRICS_SERVER),
        *(f"--{name}={file}" for name, file in files.items()),
        f"--bind-address={layout.HOST_IP}",
        f"--secure-port={PORT}",
        f"--cert-dir={state.root / NAME}",
        f"--kubelet-certificate-authority={folder / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=15s",  # kubelets look no more often themselves
    ]
    start(state, NAME, command, DAEMONS)
    text = (HERE / "manifests" / "metrics.yaml").read_text()
    for key, value in (("HOST_IP", layout.HOST_IP), ("PORT", str(PORT))):
        text = text.replace("${" + key + "}", value)
    run(plane.programs / "kubectl", f"--kubeconfig={state.kubeconfig}", "apply", "-f", "-", input=text)
