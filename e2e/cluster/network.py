"""The host's end of the network: a bridge for the nodes, and routes that keep pods and services on this machine."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

from cluster import layout
from cluster.console import ClusterError, run
from cluster.layout import State

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def up(state: State) -> None:
    """Make what is missing."""
    if not _exists(layout.BRIDGE):
        run("ip", "link", "add", layout.BRIDGE, "type", "bridge")
    prefix = ipaddress.ip_network(layout.NODE_NETWORK).prefixlen
    run("ip", "address", "replace", f"{layout.HOST_IP}/{prefix}", "dev", layout.BRIDGE)
    run("ip", "link", "set", layout.BRIDGE, "up")
    if not state.forwarding.exists():
        state.forwarding.write_text(FORWARD.read_text())
    FORWARD.write_text("1")
    run("ip", "route", "replace", "unreachable", layout.SERVICE_NETWORK)
    # Behind the nodes' own routes: a pod range that no node has is not sent to the machine's default gateway.
    run("ip", "route", "replace", "unreachable", layout.POD_NETWORK, "metric", "500")


def connect(name: str, pid: int, address: str) -> None:
    """Give the network namespace of process `pid` an interface on the bridge with this address, or what of it lacks."""
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net")
    veth = f"{layout.CGROUP}-{name}"
    prefix = ipaddress.ip_network(layout.NODE_NETWORK).prefixlen
    if not _exists(veth):
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "link", "set", veth, "master", layout.BRIDGE, "up")
    run(*inside, "ip", "link", "set", "lo", "up")
    run(*inside, "ip", "address", "replace", f"{address}/{prefix}", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "up")
    run(*inside, "ip", "route", "replace", "default", "via", layout.HOST_IP)
    run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1")


def route_pods(pod_network: str, address: str) -> None:
    """From the host (and over it, from the other nodes) to a node's pods."""
    run("ip", "route", "replace", pod_network, "via", address)


def down(state: State) -> None:
    """Routes and bridge; the nodes' ends go with their namespaces. Nothing happens where nothing is."""
    nodes, pods = ipaddress.ip_network(layout.NODE_NETWORK), ipaddress.ip_network(layout.POD_NETWORK)
    for route in json.loads(run("ip", "-json", "route", "show")):
        gateway = route.get("gateway")
        if gateway and ipaddress.ip_address(gateway) in nodes:
            run("ip", "route", "del", route["dst"], "via", gateway)
    for network in (layout.SERVICE_NETWORK, str(pods)):
        if run("ip", "-json", "route", "show", "type", "unreachable", network).strip() not in ("", "[]", "[ ]"):
            run("ip", "route", "del", "unreachable", network)
    for link in json.loads(run("ip", "-json", "link", "show")):
        if link["ifname"].startswith(f"{layout.CGROUP}-"):
            _remove(link["ifname"])
    if _exists(layout.BRIDGE):
        run("ip", "link", "del", layout.BRIDGE)
    if state.forwarding.exists() and not _another_cluster():
        FORWARD.write_text(state.forwarding.read_text())


def _remove(link: str) -> None:
    """A node's end, which goes by itself a moment after the last process of its namespace."""
    try:
        run("ip", "link", "del", link)
    except ClusterError:
        if _exists(link):
            raise


def _another_cluster() -> bool:
    """Whether another instance's nodes still need this machine to forward."""
    return any(_exists(f"llms{number}") for number in range(10))


def _exists(link: str) -> bool:
    return subprocess.run(["ip", "link", "show", link], capture_output=True).returncode == 0
