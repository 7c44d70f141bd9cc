"""`spec.podTemplate`: what of it is the plan's own, and is refused with the field to use instead."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_api.adapters import MOST_ADAPTERS
from llmservice_api.labels import NAME
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.paths import (
    ADAPTERS_FOLDER,
    CA_FOLDER,
    CACHE_PATH,
    CLAIM_PATH,
    SECRETS_PATH,
    SETTINGS_FOLDER,
)
from llmservice_operator.facts.vendors import VENDORS

CONTAINER = "runtime"
"""The engine's container."""
INSPECT = "inspect"
"""The container of the Job that reads the model's headers."""
FETCH = "fetch"
"""The init container that brings the model into a replica's own cache."""
ADAPTER = "adapter"
"""The container of the Job that reads an adapter's headers."""
ADAPTERS = "llmservice-adapters"
"""The volume of the file that says which adapters a replica loads."""
ADAPTER_SECRETS = tuple(f"llmservice-adapter-secret-{number}" for number in range(MOST_ADAPTERS))
"""Volumes of the Secrets of adapters."""
OWN_VOLUMES = frozenset(("cache", "model", "settings", "credentials", "ca", ADAPTERS, *ADAPTER_SECRETS))
OWN_PATHS = ("/tmp", CACHE_PATH, CLAIM_PATH, SECRETS_PATH, SETTINGS_FOLDER, CA_FOLDER, ADAPTERS_FOLDER)
_DOMAIN = NAME.partition("/")[0] + "/"

POD_FIELDS = {
    "serviceAccountName": "Use spec.serviceAccountName.",
    "serviceAccount": "Use spec.serviceAccountName.",
    "terminationGracePeriodSeconds": "It follows from spec.endpoint.drainSeconds.",
    "restartPolicy": "Replicas are always restarted; leave it out.",
    "ephemeralContainers": "They are added to a pod that runs: use kubectl debug.",
    "resources": "Use spec.resources, and resources of containers of your own.",
}
"""Fields of the pod that the plan owns -> what to do instead."""
CONTAINER_FIELDS = {
    "image": "Use spec.engine.image.",
    "command": "Use spec.engine.args.",
    "args": "Use spec.engine.args.",
    "ports": "They are the runtime's contract; a Service of your own may map them.",
    "lifecycle": "It is part of the drain; see spec.endpoint.drainSeconds.",
    "terminationMessagePath": "Failures are reported through it; leave it out.",
    "terminationMessagePolicy": "Failures are reported through it; leave it out.",
}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
HANDLERS = ("httpGet", "exec", "tcpSocket", "grpc")
POD_LISTS = ("containers", "initContainers", "volumes")
CONTAINER_PARTS = (*PROBES, "resources", "volumeMounts", "env")
"""Parts of the pod, and of the engine's container, that are the plan's and may be added to; null would remove them."""
_KEPT = "null would remove what the plan says there: leave it out."


def forbidden(spec: LLMServiceSpec) -> Iterator[tuple[str, str]]:
    """(field, what to do instead) for everything that the template says and the plan owns."""
    template = spec.pod_template
    if template is None:
        return
    for kind, entries in (("labels", template.metadata.labels), ("annotations", template.metadata.annotations)):
        yield from ((f"metadata.{kind}.{name}", f"{_DOMAIN}* is the operator's.") for name in entries if _own(name))
    yield from ((f"spec.{name}", POD_FIELDS[name]) for name in template.spec if name in POD_FIELDS)
    yield from ((f"spec.{name}", _KEPT) for name in POD_LISTS if template.spec.get(name, ()) is None)
    for volume in named(template.spec.get("volumes")):
        if volume.get("name") in OWN_VOLUMES:
            yield f"spec.volumes[{volume['name']}]", "The name is taken: choose another."
    if any(step.get("name") == FETCH for step in named(template.spec.get("initContainers"))):
        yield f"spec.initContainers[{FETCH}]", f"It takes env, envFrom and mounts of containers[{CONTAINER}]."
    yield from ((f"spec.containers[{CONTAINER}].{field}", remedy) for field, remedy in _container(spec))


def _container(spec: LLMServiceSpec) -> Iterator[tuple[str, str]]:
    container = runtime_container(spec)
    yield from ((name, CONTAINER_FIELDS[name]) for name in container if name in CONTAINER_FIELDS)
    yield from ((name, _KEPT) for name in CONTAINER_PARTS if container.get(name, ()) is None)
    for probe in PROBES:
        handlers = [name for name in HANDLERS if name in (mapping(container.get(probe)))]
        yield from ((f"{probe}.{name}", "Only its times can be set.") for name in handlers)
    resources = mapping(container.get("resources"))
    for kind in ("requests", "limits"):
        if resources.get(kind, ()) is None:
            yield f"resources.{kind}", _KEPT
        for name in mapping(resources.get(kind)):
            if name in ("cpu", "memory"):
                yield f"resources.{kind}.{name}", f"Use spec.resources.{kind}.{name}."
            elif name == spec.accelerator.resource_name or name.startswith(tuple(VENDORS)):
                yield f"resources.{kind}.{name}", "Use spec.accelerator.resourceName and count."
    for mount in named(container.get("volumeMounts")):
        path = str(mount.get("mountPath", ""))
        meant = posixpath.normpath("/" + path.lstrip("/"))  # as the kubelet takes it
        if any(meant == own or meant.startswith(own + "/") for own in OWN_PATHS):
            yield f"volumeMounts[{path}]", "The path is taken: choose another."


def runtime_container(spec: LLMServiceSpec) -> Mapping[str, Any]:
    """What the template says of the engine's container."""
    containers = named(spec.pod_template.spec.get("containers")) if spec.pod_template else []
    return next((container for container in containers if container.get("name") == CONTAINER), {})


def repeated(spec: LLMServiceSpec) -> Iterator[str]:
    """Fields whose name stands more than once: merging would make one of both, which nobody looked at."""
    for group in ("containers", "initContainers", "volumes"):
        items = named(spec.pod_template.spec.get(group)) if spec.pod_template else ()
        counts = Counter(item["name"] for item in items if isinstance(item.get("name"), str))
        yield from (f"spec.{group}[{name}]" for name, count in counts.items() if count > 1)


def _own(name: str) -> bool:
    return name.startswith(_DOMAIN)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, or nothing when it is no mapping: others say so."""
    return value if isinstance(value, Mapping) else {}


def named(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; what is none is told by others (`pod_shapes`)."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
