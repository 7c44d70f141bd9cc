"""A node's configuration, and the daemons that read it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import layout, node, processes
from cluster.layout import State
from cluster.node import Node


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "cluster")


def test_containerd_pulls_from_our_registry_and_starts_our_pause() -> None:
    config = tomllib.loads(node.containerd_configuration("registry/pause:1"))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "registry/pause:1"
    assert cri["registry"]["mirrors"][layout.REGISTRY]["endpoint"] == [f"http://{layout.REGISTRY}"]


def test_the_kubelets_of_two_nodes_share_nothing_but_the_authority(state: State) -> None:
    one, two = (json.loads(json.dumps(node.kubelet_configuration(Node(state, number)))) for number in (1, 2))
    for key in ("tlsCertFile", "tlsPrivateKeyFile", "cgroupRoot", "address", "resolvConf"):
        assert one[key] != two[key]
    assert one["authentication"] == two["authentication"]
    assert one["authentication"]["anonymous"]["enabled"] is False
    assert one["cgroupRoot"].startswith(f"/{layout.CGROUP}/")


def test_pods_of_a_node_get_its_range() -> None:
    plugins = node.pod_network_configuration("10.244.1.0/24")["plugins"]
    assert isinstance(plugins, list)
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    assert "ipMasq" not in plugins[0]  # nodes and pods know each other by their own addresses


@pytest.fixture
def sleeper(state: State) -> Iterator[int]:
    processes.start(state, "sleeper", ["sleep", "60"])
    pid = processes.pid_of(state, "sleeper")
    assert pid is not None
    yield pid
    processes.stop(state, "sleeper")


def test_a_daemon_is_started_once(state: State, sleeper: int) -> None:
    processes.start(state, "sleeper", ["sleep", "60"])
    assert processes.pid_of(state, "sleeper") == sleeper


def test_a_stopped_daemon_leaves_no_pid_file(state: State, sleeper: int) -> None:
    processes.stop(state, "sleeper")
    assert not processes.alive(state, "sleeper")
    assert not state.pid("sleeper").exists()
    assert not Path(f"/proc/{sleeper}").exists()


def test_a_stranger_with_the_same_pid_is_not_the_daemon(state: State, sleeper: int) -> None:
    state.pid("other").write_text(f"{sleeper} 1\n")  # of one that was born in the machine's first tick
    assert not processes.alive(state, "other")
    processes.stop(state, "other")
    assert processes.alive(state, "sleeper")
