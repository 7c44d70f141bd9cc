"""The kinds of objects that the operator reads and writes, and where the API server keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_api import v1alpha1 as api

Json = dict[str, Any]
"""An object as the API server spells it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; `group` is empty for the core group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """URL path of a collection (all namespaces when None), or of an object, or of its subresource."""
        parts = ["apis" if self.group else "api", self.api_version]
        parts += ["namespaces", namespace] if namespace and self.namespaced else []
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(parts)

    def __str__(self) -> str:
        return self.kind


LLM_SERVICE = Kind(api.GROUP, api.VERSION, api.KIND, api.PLURAL)
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps", "v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD = Kind("", "v1", "Pod", "pods")
JOB = Kind("batch", "v1", "Job", "jobs")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
SECRET = Kind("", "v1", "Secret", "secrets")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
EVENT = Kind("", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
POD_MONITOR = Kind("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
NODE = Kind("", "v1", "Node", "nodes", namespaced=False)

OWNED = (
    DEPLOYMENT,
    CONTROLLER_REVISION,
    SERVICE,
    SERVICE_ACCOUNT,
    CLAIM,
    POD,
    JOB,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    CONFIG_MAP,
)
"""Kinds that belong to an LLMService; the core says in which order they are applied."""

_BY_NAME = {
    (kind.api_version, kind.kind): kind
    for kind in (LLM_SERVICE, *OWNED, SECRET, EVENT, LEASE, NODE, POD_MONITOR, ENDPOINT_SLICE)
}


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The kind of an object. Raises KeyError for one that is not in this module."""
    return _BY_NAME[obj["apiVersion"], obj["kind"]]
