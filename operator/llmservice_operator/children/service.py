"""The Service: port 80 to the engines' data port."""

from __future__ import annotations

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
            "selector": owner.selector,
            "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": DATA_PORT, "protocol": "TCP"}],
        },
    )


def url(owner: Owner, cluster_domain: str) -> str:
    """OpenAI base URL."""
    return f"http://{owner.name}.{owner.namespace}.svc.{cluster_domain}/v1"
