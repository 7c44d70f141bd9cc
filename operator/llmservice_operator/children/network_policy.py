"""The NetworkPolicy: who may talk to replicas. Answers and downloads go out freely."""

from __future__ import annotations

from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Json, Owner
from llmservice_runtime.contract.ports import DATA_PORT, SUPERVISOR_PORT

NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def network_policy(owner: Owner, config: OperatorConfig) -> Json:
    """Requests from the own namespace and the gateway's; metrics also to Prometheus and the operator."""
    own: Json = {"podSelector": {}}
    requests = [own, *_namespaces(config.gateway_namespace)]
    watchers = _namespaces(config.operator_namespace, config.prometheus_namespace)
    rules = [
        {"from": requests, "ports": [_port(DATA_PORT)]},
        {"from": watchers, "ports": [_port(DATA_PORT), _port(SUPERVISOR_PORT)]},
    ]
    spec = {"podSelector": {"matchLabels": owner.selector}, "policyTypes": ["Ingress"], "ingress": rules}
    return owner.child("networking.k8s.io/v1", "NetworkPolicy", owner.name, spec=spec)


def _namespaces(*names: str) -> list[Json]:
    return [{"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: name}}} for name in dict.fromkeys(names) if name]


def _port(number: int) -> Json:
    return {"protocol": "TCP", "port": number}
