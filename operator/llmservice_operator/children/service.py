"""The Service: port 80 to the engines' data port."""

from __future__ import annotations

from llmservice_api.v1alpha1 import EndpointAccess
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Json, Owner
from llmservice_runtime.contract.ports import DATA_PORT

PORT = 80
PORT_NAME = "http"


def service(owner: Owner) -> Json:
    """Reaches ready replicas only; kube-proxy stops sending to those that end."""
    return owner.child(
        "v1",
        "Service",
        owner.name,
        spec={
            "type": "ClusterIP",
            "ipFamilyPolicy": "PreferDualStack",
            "selector": owner.selector,
            "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": DATA_PORT, "protocol": "TCP"}],
        },
    )


def leads_to_replicas(owner: Owner, live: Json | None) -> bool:
    """Whether requests to the URL reach the replicas: `live` is the service's own, and leads where ours does."""
    if live is None or "deletionTimestamp" in live["metadata"]:
        return False
    if live["spec"].get("type", "ClusterIP") != "ClusterIP":
        return False  # a name outside, or a port of every node: what the URL reaches is not known
    ports = [(port["port"], port.get("targetPort")) for port in live["spec"].get("ports", ())]
    return live["spec"].get("selector") == owner.selector and (PORT, DATA_PORT) in ports


def url(owner: Owner, access: EndpointAccess, config: OperatorConfig) -> str:
    """OpenAI base URL, at the gateway where that is the way in."""
    domain, gateway = config.cluster_domain, config.gateway
    if gateway is None or access is EndpointAccess.DIRECT:
        return f"http://{owner.name}.{owner.namespace}.svc.{domain}/v1"
    return f"http://{gateway.service}.{config.operator_namespace}.svc.{domain}/{owner.namespace}/{owner.name}/v1"
