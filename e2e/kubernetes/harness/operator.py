"""The operator's pods, and what a test does to them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from cluster import processes
from cluster.layout import CGROUP
from harness.api import Api, Json
from harness.release import NAME, NAMESPACE
from harness.wait import wait_for

LEASE = "llmservice-operator"


def leader(api: Api) -> str:
    """The name of the pod that leads."""
    holder: str = api.get("leases", NAMESPACE, LEASE)["spec"]["holderIdentity"]
    return holder.rpartition("_")[0]


def kill(api: Api, pod: str) -> None:
    """End a pod at once, as when its node dies."""
    api.delete("pods", NAMESPACE, pod, grace=0)


def crash(pod: Json) -> None:
    """SIGKILL, on the bare provider's nodes: its Lease stays. A pod that is deleted may still say that it goes."""
    found = [
        number
        for root in processes.hierarchies()
        for file in (root / CGROUP).glob(f"**/pod{pod['metadata']['uid']}/**/cgroup.procs")
        for number in map(int, file.read_text().split())
        if b"llmservice_operator" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]
    assert found, "no process of the operator in the pod's control groups"
    for number in set(found):
        os.kill(number, signal.SIGKILL)


def kill_leader(api: Api, seconds: float = 60) -> str:
    """Kill the leader and wait until another one leads; its name."""
    old = leader(api)
    kill(api, old)
    return wait_for(lambda: found if (found := leader(api)) not in ("", old) else None, "another leads", seconds)


def wait_operator(api: Api, seconds: float = 90) -> None:
    """Until every replica of the operator is ready."""

    def holds() -> bool:
        found = api.get("deployments", NAMESPACE, NAME)
        status = found["status"]
        wanted = found["spec"]["replicas"]
        return bool(wanted == status.get("readyReplicas") == status.get("replicas") == status.get("updatedReplicas"))

    wait_for(holds, "the operator is ready", seconds)
