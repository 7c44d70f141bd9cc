"""A node: containerd, kubelet and kube-proxy in a network and a mount namespace of their own.

The namespaces are held by one idle process, the anchor, and by nothing else: no name under /run/netns, no mount that
the host sees. Inside, the usual folders (/var/lib/kubelet, /run/containerd, ...) are the node's own, so two nodes don't
meet, and when the last process is dead the mounts and interfaces are gone without anybody undoing them.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from cluster import layout, network, pki
from cluster.console import run, wait_until
from cluster.controlplane import ControlPlane
from cluster.layout import State
from cluster.processes import create_cgroup, pid_of, start, stop

PRIVATE = (
    "/etc/cni", "/opt/local-path-provisioner", "/run/containerd", "/run/netns", "/usr/libexec/kubernetes",
    "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods",
)  # fmt: skip
"""Folders of which each node has its own. Those the host lacks are made as places to mount on, and noted for `down`."""
ANCHOR = """
mount --make-rprivate /
for folder in $FOLDERS; do
  mkdir -p "$DISK$folder"
  mount --bind "$DISK$folder" "$folder"
done
mount --make-rshared /
exec sleep infinity
"""


@dataclass(frozen=True, slots=True)
class Node:
    """The n-th node, from 1."""

    state: State
    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return f"{layout.HOST_IP.rpartition('.')[0]}.{10 + self.number}"

    @property
    def disk(self) -> Path:
        return self.state.root / self.name

    def daemon(self, part: str) -> str:
        """The name of its process in pid and log files."""
        return f"{self.name}-{part}"


def up(node: Node, plane: ControlPlane, pause_image: str) -> None:
    """Start what doesn't run; returns when the API server knows the node and its pods can be reached."""
    _write_configuration(node, plane, pause_image)
    anchor = _anchor(node)
    network.connect(node.name, anchor, node.address)
    _daemon(node, "containerd", "containerd", "--config", node.disk / "containerd.toml")
    path = f"/proc/{anchor}/root/run/containerd/containerd.sock"
    wait_until(lambda: _listens(path), f"{node.name}'s containerd", 30, node.state.log(node.daemon("containerd")))
    identity = pki.node(node.name, node.address)
    _daemon(
        node, "kubelet", plane.programs / "kubelet", f"--config={node.disk / 'kubelet.json'}",
        f"--kubeconfig={node.state.pki / f'{identity.name}.kubeconfig'}", f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    )  # fmt: skip
    _daemon(node, "proxy", plane.programs / "kube-proxy", f"--config={node.disk / 'proxy.json'}")
    log = node.state.log(node.daemon("kubelet"))
    wait_until(lambda: bool(_pod_network(node, plane)), f"{node.name}'s registration", 60, log)
    # The range is the controller manager's choice, so the pods' network is written once it is known.
    pods = _pod_network(node, plane)
    network.route_pods(pods, node.address)
    conf = node.disk / "etc/cni/net.d/10-pods.conflist"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(json.dumps(pod_network_configuration(pods)))


def _listens(path: str) -> bool:
    """Whether somebody takes connections there. The file comes first, and stays when who listened has ended; a kubelet
    that is refused ends."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def restart(node: Node, part: str, plane: ControlPlane, pause_image: str) -> None:
    """Stop one part (containerd, kubelet, proxy) and bring it back."""
    stop(node.state, node.daemon(part))
    up(node, plane, pause_image)


def ready(node: Node, plane: ControlPlane) -> bool:
    """Whether the node's Ready condition is True."""
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return _get(plane, "node", node.name, "-o", f"jsonpath={path}") == "True"


def make_places(state: State) -> None:
    """The folders to mount on; each that had to be made is noted before it is."""
    for place in map(Path, PRIVATE):
        for folder in [*reversed(place.parents), place]:
            if not folder.exists():
                with state.places.open("a") as notes:
                    notes.write(f"{folder}\n")
                folder.mkdir()


def _anchor(node: Node) -> int:
    """The process that holds the namespaces, started unless it runs; its pid, once the folders are mounted."""
    make_places(node.state)
    environment = [f"DISK={node.disk}", f"FOLDERS={' '.join(PRIVATE)}"]
    unshare = ["unshare", "--mount", "--net", "/bin/sh", "-ec", ANCHOR]
    start(node.state, node.daemon("anchor"), ["env", *environment, *unshare], f"{node.name}-system")
    pid = pid_of(node.state, node.daemon("anchor"))
    assert pid is not None
    command = Path(f"/proc/{pid}/cmdline")
    log = node.state.log(node.daemon("anchor"))
    wait_until(lambda: command.read_bytes().startswith(b"sleep"), f"{node.name}'s namespaces", 60, log)
    return pid


def _daemon(node: Node, part: str, *command: str | Path) -> None:
    """Start a program inside the node. (`ip netns exec` would not do: it hides the control groups.)"""
    anchor = pid_of(node.state, node.daemon("anchor"))
    inside = ["nsenter", f"--target={anchor}", "--mount", "--net", "--"]
    start(node.state, node.daemon(part), [*inside, *command], f"{node.name}-system")


def _write_configuration(node: Node, plane: ControlPlane, pause_image: str) -> None:
    node.disk.mkdir(parents=True, exist_ok=True)
    create_cgroup(node.name)
    for who in (pki.node(node.name, node.address), pki.PROXY):
        pki.issue(node.state.pki, who)
        pki.kubeconfig(node.state.pki, who, plane.server)
    files = {
        "containerd.toml": containerd_configuration(pause_image),
        "kubelet.json": json.dumps(kubelet_configuration(node), indent=2),
        "proxy.json": json.dumps(_proxy(node), indent=2),
        "resolv.conf": "nameserver 127.0.0.1\n",  # no pod asks the machine's resolver
    }
    for name, text in files.items():
        file = node.disk / name
        if not file.exists() or file.read_text() != text:  # kube-proxy ends when its file is as much as touched
            file.write_text(text)


def containerd_configuration(pause_image: str) -> str:
    """containerd's file (TOML)."""
    # restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE, runc dies on lowering the score of a container.
    # discard_unpacked_layers: of the largest image they are some GB.
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  disable_tcp_service = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."{layout.REGISTRY}"]
    endpoint = ["http://{layout.REGISTRY}"]
"""


def kubelet_configuration(node: Node) -> dict[str, object]:
    """The kubelet's file."""
    folder = node.state.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(folder / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(folder / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(folder / f"{node.name}.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.CGROUP}/{node.name}",
        "clusterDNS": [layout.DNS_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": str(node.disk / "resolv.conf"),
        "failSwapOn": False,
        "address": node.address,
        "healthzBindAddress": "127.0.0.1",
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "4s",
        "registryPullQPS": 0,
    }


def _proxy(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.state.pki / "proxy.kubeconfig")},
        "mode": "iptables",
        "clusterCIDR": layout.POD_NETWORK,
        "hostnameOverride": node.name,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }


def pod_network_configuration(pod_network: str) -> dict[str, object]:
    """The chain of network plugins for a node whose pods have this range."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": pod_network}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def _pod_network(node: Node, plane: ControlPlane) -> str:
    """The range the controller manager gave the node; empty while there is none."""
    return _get(plane, "node", node.name, "-o", "jsonpath={.spec.podCIDR}", "--ignore-not-found")


def _get(plane: ControlPlane, *what: str) -> str:
    return run(plane.programs / "kubectl", f"--kubeconfig={plane.state.kubeconfig}", "get", *what)
