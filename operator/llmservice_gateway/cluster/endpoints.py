"""From EndpointSlices to the replicas that take requests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmservice_gateway.routing import Replica
from llmservice_kube.kinds import Json
from llmservice_runtime.contract.listening import in_url

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
PORT_NAME = "http"
_FAMILIES = {"IPv4": 0, "IPv6": 1}
"""Address types that are used; where a pod has both, the first."""


@dataclass(frozen=True, slots=True)
class Known:
    """A pod behind a Service, whether it takes requests or not."""

    name: str
    address: str
    ready: bool
    ends: bool


def known(name: str, slices: Iterable[Json]) -> list[Known]:
    """All pods behind the Service `name` that have an address, in the order of their names. As `replicas` otherwise."""
    found: dict[str, Known] = {}
    for entry in sorted((entry for entry in slices if _is_ours(name, entry)), key=_family):
        for pod in _pods(entry):
            found.setdefault(pod.name, pod)
    return sorted(found.values(), key=lambda pod: pod.name)


def replicas(name: str, slices: Iterable[Json]) -> tuple[Replica, ...]:
    """Ready pods behind the Service `name`, in the order of their names, each once.

    A slice that the cluster's controller did not make of that Service's selector says nothing: whoever may write one
    could lead requests anywhere. A pod that ends is not asked any more, whatever else is said of it.
    """
    found: dict[str, str] = {}
    for entry in sorted((entry for entry in slices if _is_ours(name, entry)), key=_family):
        port = next((port["port"] for port in entry.get("ports") or () if port.get("name") == PORT_NAME), None)
        if port is not None:
            for pod, address in _ready(entry):
                found.setdefault(pod, f"http://{in_url(address)}:{port}")
    return tuple(Replica(pod, url) for pod, url in sorted(found.items()))


def _is_ours(name: str, entry: Json) -> bool:
    metadata = entry["metadata"]
    labels = metadata.get("labels") or {}
    owners = metadata.get("ownerReferences") or ()
    return (
        entry.get("addressType") in _FAMILIES
        and labels.get(SERVICE_NAME) == name
        and labels.get(MANAGED_BY) == CONTROLLER
        and any(owner["kind"] == "Service" and owner["name"] == name for owner in owners)
    )


def _family(entry: Json) -> tuple[int, str]:
    return _FAMILIES[entry["addressType"]], entry["metadata"]["name"]


def _ready(entry: Json) -> Iterator[tuple[str, str]]:
    """(pod, address)."""
    return ((pod.name, pod.address) for pod in _pods(entry) if pod.ready and not pod.ends)


def _pods(entry: Json) -> Iterator[Known]:
    """A condition that is not said counts as the API says: ready, and not ending."""
    namespace = entry["metadata"].get("namespace", "")
    for endpoint in entry.get("endpoints") or ():
        said, target = endpoint.get("conditions") or {}, endpoint.get("targetRef") or {}
        if target.get("kind") == "Pod" and target.get("namespace", namespace) == namespace:
            ready, ends = said.get("ready") is not False, bool(said.get("terminating"))
            yield Known(target["name"], endpoint["addresses"][0], ready, ends)
