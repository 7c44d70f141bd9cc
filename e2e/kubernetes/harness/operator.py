"""The operator's pods, and what a test does to them."""

from __future__ import annotations

from harness.api import Api
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
