"""The NetworkPolicy: who may talk to replicas. Answers and downloads go out freely."""

from __future__ import annotations

from llmservice_api.v1alpha1 import EndpointAccess
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Json, Owner
from llmservice_runtime.contract.ports import DATA_PORT, SUPERVISOR_PORT

NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def network_policy(owner: Owner, access: EndpointAccess, config: OperatorConfig) -> Json:
    """Requests from the installation's gateway; with direct access also from the own namespace and that of a gateway of
    others. Metrics also to Prometheus and the operator."""
    own: Json = {"podSelector": {}}
    direct = [own, *_namespaces(config.gateway_namespace)] if access is EndpointAccess.DIRECT else []
    requests = [*direct, *_gateways(config)]
    watchers = _namespaces(config.operator_namespace, config.prometheus_namespace)
    rules = [
        {"from": requests, "ports": [_port(DATA_PORT)]},
        {"from": watchers, "ports": [_port(DATA_PORT), _port(SUPERVISOR_PORT)]},
    ]
    spec = {"podSelector": {"matchLabels": owner.selector}, "policyTypes": ["Ingress"], "ingress": rules}
    return owner.child("networking.k8s.io/v1", "NetworkPolicy", owner.name, spec=spec)


def _gateways(config: OperatorConfig) -> list[Json]:
    if config.gateway is None:
        return []
    (namespace,) = _namespaces(config.operator_namespace)
    return [{**namespace, "podSelector": {"matchLabels": dict(config.gateway.labels)}}]


def _namespaces(*names: str) -> list[Json]:
    return [{"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: name}}} for name in dict.fromkeys(names) if name]


def _port(number: int) -> Json:
    return {"protocol": "TCP", "port": number}
