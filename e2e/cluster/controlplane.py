"""etcd, API server, controller manager and scheduler as processes of this machine."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cluster import layout, pki
from cluster.console import wait_until
from cluster.layout import State
from cluster.processes import start

DAEMONS = "control"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where the parts listen. `address` is what clients dial; etcd is always on loopback."""

    state: State
    programs: Path
    address: str
    api_port: int
    etcd_port: int
    peer_port: int
    cgroup: str = ""

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.api_port}"


def bare(state: State, programs: Path) -> ControlPlane:
    """The whole cluster's: reachable from the nodes over the bridge."""
    nth = layout.INSTANCE
    return ControlPlane(state, programs, layout.HOST_IP, 6443 + nth, 23790 + nth, 23800 + nth, DAEMONS)


def loopback(state: State, programs: Path) -> ControlPlane:
    """For tests that need the API alone: free ports on 127.0.0.1, beside any other cluster."""
    api, etcd, peer = _free_ports(3)
    return ControlPlane(state, programs, "127.0.0.1", api, etcd, peer)


def start_api(plane: ControlPlane) -> None:
    """Certificates, etcd and the API server; returns when /readyz answers ok."""
    folder = plane.state.pki
    pki.authority(folder)
    pki.issue(folder, pki.api_server(plane.address, layout.FIRST_SERVICE_IP))
    for who in (pki.ADMIN, pki.KUBELET_CLIENT):
        pki.issue(folder, who)
    if not _alone(plane):
        pki.authority(folder, pki.FRONT)
        pki.issue(folder, pki.FRONT_PROXY, pki.FRONT)
    pki.kubeconfig(folder, pki.ADMIN, plane.server)
    start(plane.state, "etcd", _etcd(plane), plane.cgroup)
    start(plane.state, "apiserver", _api_server(plane), plane.cgroup)
    log = plane.state.log("apiserver")
    wait_until(lambda: api_ready(plane.server, folder), "The API server", 90, log)


def start_controllers(plane: ControlPlane) -> None:
    """Controller manager and scheduler; they elect nobody, being alone."""
    folder = plane.state.pki
    common = ("--leader-elect=false", "--bind-address=127.0.0.1")
    for who in (pki.CONTROLLERS, pki.SCHEDULER):
        pki.issue(folder, who)
        pki.kubeconfig(folder, who, plane.server)
    start(plane.state, "controllers", [*_controllers(plane), *common], plane.cgroup)
    scheduler: list[str | Path] = [
        plane.programs / "kube-scheduler",
        f"--kubeconfig={folder / 'scheduler.kubeconfig'}",
        f"--secure-port={10259 + 10 * layout.INSTANCE}",
        *common,
    ]
    start(plane.state, "scheduler", scheduler, plane.cgroup)


def api_ready(server: str, folder: Path) -> bool:
    """Whether /readyz says ok to the administrator."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{server}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _etcd(plane: ControlPlane) -> list[str | Path]:
    client, peer = f"http://127.0.0.1:{plane.etcd_port}", f"http://127.0.0.1:{plane.peer_port}"
    return [
        plane.programs / "etcd",
        f"--data-dir={plane.state.root / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # a test cluster outlives no power cut
    ]


def _api_server(plane: ControlPlane) -> list[str | Path]:
    folder = plane.state.pki
    return [
        plane.programs / "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{plane.etcd_port}",
        f"--bind-address={plane.address if _alone(plane) else '0.0.0.0'}",
        f"--advertise-address={plane.address}",
        f"--secure-port={plane.api_port}",
        f"--cert-dir={plane.state.root / 'apiserver'}",
        f"--tls-cert-file={folder / 'apiserver.crt'}",
        f"--tls-private-key-file={folder / 'apiserver.key'}",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={layout.SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={folder / 'kubelet-client.crt'}",
        f"--kubelet-client-key={folder / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={folder / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--enable-aggregator-routing=true",  # webhooks are dialled at pod addresses: the host has no kube-proxy
        "--allow-privileged=true",
        *(["--endpoint-reconciler-type=none"] if _alone(plane) else _aggregation(folder)),  # loopback is no endpoint
    ]


def _alone(plane: ControlPlane) -> bool:
    """Whether it is the API server of a test, with no cluster around it."""
    return plane.address == "127.0.0.1"


def _aggregation(folder: Path) -> list[str]:
    """How APIs that others serve, as metrics-server does, know who asks."""
    client = folder / pki.FRONT_PROXY.name
    return [
        f"--proxy-client-cert-file={client}.crt",
        f"--proxy-client-key-file={client}.key",
        f"--requestheader-client-ca-file={folder / pki.FRONT}.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
    ]


def _controllers(plane: ControlPlane) -> list[str | Path]:
    folder = plane.state.pki
    return [
        plane.programs / "kube-controller-manager",
        f"--kubeconfig={folder / 'controllers.kubeconfig'}",
        f"--root-ca-file={folder / 'ca.crt'}",
        f"--service-account-private-key-file={folder / 'sa.key'}",
        f"--secure-port={10257 + 10 * layout.INSTANCE}",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={layout.POD_NETWORK}",
        "--node-cidr-mask-size=24",
        f"--cluster-signing-cert-file={folder / 'ca.crt'}",
        f"--cluster-signing-key-file={folder / 'ca.key'}",
        f"--flex-volume-plugin-dir={plane.state.root / 'volume-plugins'}",
        # HorizontalPodAutoscalers look often, and soon believe what a new pod uses: no test waits five minutes.
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
    ]


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
