"""Objects of a cluster, as its controllers make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmservice_kube.kinds import Json


def llmservice(
    name: str = "demo",
    *,
    reason: str = "Starting",
    message: str = "The first replica starts.",
    ready: str = "False",
    spec: Json | None = None,
    plan: Json | None = None,
    status: Json | None = None,
    namespace: str = "apps",
) -> Json:
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    return {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"model": {"uri": "hf://a/b"}, "replicas": 1, **(spec or {})},
        "status": {"conditions": [condition], "plan": plan or {}, **(status or {})},
    }


def endpoint(pod: str, *addresses: str, namespace: str = "apps", **conditions: bool) -> Json:
    made: Json = {"addresses": list(addresses), "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace}}
    return made | ({"conditions": conditions} if conditions else {})


def endpoint_slice(
    *endpoints: Json,
    service: str = "demo",
    name: str = "demo-abc12",
    family: str = "IPv4",
    port: int = 8000,
    namespace: str = "apps",
    labels: dict[str, str] | None = None,
    owners: Sequence[Any] | None = None,
) -> Json:
    own = {
        "llmservice.dev/name": service,
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    owner = {"apiVersion": "v1", "kind": "Service", "name": service, "uid": "1", "controller": True}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**own, **(labels or {})},
            "ownerReferences": [owner] if owners is None else list(owners),
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }
