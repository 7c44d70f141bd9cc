"""Labels and annotations that the operator puts on what belongs to a service."""

from collections.abc import Mapping
from typing import Any

NAME = "llmservice.dev/name"
"""On every child and every pod: the service's name. What the operator watches carries it."""
COMPONENT = "llmservice.dev/component"
"""RUNTIME on replicas, PREPARE on the Jobs that read the model's headers and fill the cache, and on what they read."""
REVISION = "llmservice.dev/revision"
"""On replicas: the ControllerRevision whose plan they run."""
SETTINGS = "llmservice.dev/settings"
"""Annotation of replicas: the runtime's settings as JSON, mounted as a file through the downward API."""
ADAPTERS_SEEN = "llmservice.dev/adapters"
"""Annotation of replicas: a digest of the adapters that they are to load, which has their kubelet bring the file."""
DEMAND = "llmservice.dev/demand"
"""Annotation of a gateway's Lease: what services are asked for there (demand_lease)."""
DEATHS = "llmservice.dev/deaths"
"""Annotation of a gateway's Lease: requests with which replicas died there (deaths_lease)."""
ALIASES = "llmservice.dev/aliases"
"""Annotation of a service on one machine: other names that requests may have for it, with spaces between them. In a
cluster aliases are the gateway's configuration."""
LAUNCHED = "llmservice.dev/launched"
"""Label of a service: a client of the gateway launched it, in this protocol; who puts it on another one lets clients of
the gateway remove that."""
GATEWAY = {"app.kubernetes.io/component": "gateway"}
"""On what belongs to an installation's gateway, its pods and Leases too, beside the installation's own labels."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""Kueue's label: on an LLMService it is copied to what needs room, the Deployment with its pods and the Jobs."""

RUNTIME = "runtime"
PREPARE = "prepare"


def serving(name: str) -> dict[str, str]:
    """The labels that select a service's replicas, and nothing else of it."""
    return {NAME: name, COMPONENT: RUNTIME}


def selector(labels: dict[str, str]) -> str:
    """Labels as a selector text: `a=b,c=d`."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def aliases_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Other names of a service, by its metadata: on one machine, where services and gateway are the same person's."""
    told = (metadata.get("annotations") or {}).get(ALIASES, "")
    return tuple(told.replace(",", " ").split())
