"""`spec.podTemplate`: what it may say of the plan's own fields, and which part of it the preparing Jobs share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_api.labels import NAME
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.merge import Json, Merge
from llmservice_operator.children.model_access import CACHE_PATH, CLAIM_PATH, SECRETS_PATH
from llmservice_operator.core.placing import VENDORS

CONTAINER = "runtime"
"""The engine's container."""
FETCH = "fetch"
"""The init container that brings the model into a replica's own cache."""
SETTINGS_FOLDER = "/etc/llmservice"
CA_FOLDER = "/etc/llmservice-ca"
OWN_VOLUMES = frozenset(("cache", "model", "settings", "credentials", "ca"))
OWN_PATHS = ("/tmp", CACHE_PATH, CLAIM_PATH, SECRETS_PATH, SETTINGS_FOLDER, CA_FOLDER)
_DOMAIN = NAME.partition("/")[0] + "/"

POD_FIELDS = {
    "serviceAccountName": "Use spec.serviceAccountName.",
    "serviceAccount": "Use spec.serviceAccountName.",
    "terminationGracePeriodSeconds": "It follows from spec.endpoint.drainSeconds.",
    "restartPolicy": "Replicas are always restarted; leave it out.",
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

JOB_POD_FIELDS = (
    "imagePullSecrets", "tolerations", "nodeSelector", "affinity", "volumes", "securityContext", "hostAliases",
    "dnsPolicy", "dnsConfig",
)  # fmt: skip
"""What a Job needs as well to run where replicas run, and to reach what they reach."""
JOB_CONTAINER_FIELDS = ("env", "envFrom", "volumeMounts", "securityContext")


def merged(template: Json, spec: LLMServiceSpec) -> tuple[Json, list[str]]:
    """A replica's whole pod template with the partial one in it, and the paths of what that overrides."""
    if spec.pod_template is None:
        return template, []
    merge = Merge()
    patch = {**_metadata(spec), "spec": spec.pod_template.spec}
    result = merge.merge(template, patch)
    if "initContainers" in template["spec"]:  # our own download reaches what the engine reaches
        own = {"initContainers": [{"name": FETCH, **_shared(spec)}]}
        result["spec"] = Merge().merge(result["spec"], own)
    return result, merge.overridden


def merged_job(template: Json, spec: LLMServiceSpec) -> Json:
    """A preparing Job's pod template with what the partial one says of its surroundings."""
    part, merge = job_part(spec), Merge()
    shared = part.pop("container", {})
    result = merge.merge(template, part)
    containers = [merge.merge(container, shared) for container in result["spec"]["containers"]]
    return {**result, "spec": {**result["spec"], "containers": containers}}


def job_part(spec: LLMServiceSpec) -> Json:
    """What of the template reaches the Jobs: another one is another Job. Empty when nothing does."""
    template = spec.pod_template
    if template is None:
        return {}
    pod = {name: template.spec[name] for name in JOB_POD_FIELDS if name in template.spec}
    if "affinity" in pod:  # from and to other pods: of replicas alone
        pod["affinity"] = {n: v for n, v in _mapping(pod["affinity"]).items() if n == "nodeAffinity"}
    parts = {
        **_metadata(spec),
        "spec": {name: value for name, value in pod.items() if value},
        "container": _shared(spec),
    }
    return parts if any(parts.values()) else {}


def claims_devices(spec: LLMServiceSpec) -> bool:
    """Whether the engine's container takes its accelerators from resource claims (dynamic resource allocation)."""
    resources = _runtime(spec).get("resources")
    return isinstance(resources, Mapping) and bool(resources.get("claims"))


def forbidden(spec: LLMServiceSpec) -> Iterator[tuple[str, str]]:
    """(field, what to do instead) for everything that the template says and the plan owns."""
    template = spec.pod_template
    if template is None:
        return
    for kind, entries in (("labels", template.metadata.labels), ("annotations", template.metadata.annotations)):
        yield from ((f"metadata.{kind}.{name}", f"{_DOMAIN}* is the operator's.") for name in entries if _own(name))
    yield from ((f"spec.{name}", POD_FIELDS[name]) for name in template.spec if name in POD_FIELDS)
    for volume in _named(template.spec.get("volumes")):
        if volume.get("name") in OWN_VOLUMES:
            yield f"spec.volumes[{volume['name']}]", "The name is taken: choose another."
    if any(step.get("name") == FETCH for step in _named(template.spec.get("initContainers"))):
        yield f"spec.initContainers[{FETCH}]", f"It takes env, envFrom and mounts of containers[{CONTAINER}]."
    yield from ((f"spec.containers[{CONTAINER}].{field}", remedy) for field, remedy in _container(spec))


def _container(spec: LLMServiceSpec) -> Iterator[tuple[str, str]]:
    container = _runtime(spec)
    yield from ((name, CONTAINER_FIELDS[name]) for name in container if name in CONTAINER_FIELDS)
    for probe in PROBES:
        handlers = [name for name in HANDLERS if name in (_mapping(container.get(probe)))]
        yield from ((f"{probe}.{name}", "Only its times can be set.") for name in handlers)
    for kind in ("requests", "limits"):
        for name in _mapping(_mapping(container.get("resources")).get(kind)):
            if name in ("cpu", "memory"):
                yield f"resources.{kind}.{name}", f"Use spec.resources.{kind}.{name}."
            elif name == spec.accelerator.resource_name or name.startswith(tuple(VENDORS)):
                yield f"resources.{kind}.{name}", "Use spec.accelerator.resourceName and count."
    for mount in _named(container.get("volumeMounts")):
        path = str(mount.get("mountPath", ""))
        if any(path == own or path.startswith(own + "/") for own in OWN_PATHS):
            yield f"volumeMounts[{path}]", "The path is taken: choose another."


def _runtime(spec: LLMServiceSpec) -> Mapping[str, Any]:
    containers = _named(spec.pod_template.spec.get("containers")) if spec.pod_template else []
    return next((container for container in containers if container.get("name") == CONTAINER), {})


def _shared(spec: LLMServiceSpec) -> Json:
    container = _runtime(spec)
    return {name: container[name] for name in JOB_CONTAINER_FIELDS if name in container}


def _metadata(spec: LLMServiceSpec) -> Json:
    template = spec.pod_template
    found = template.metadata.model_dump(exclude_defaults=True) if template else {}
    return {"metadata": found} if found else {}


def _own(name: str) -> bool:
    return name.startswith(_DOMAIN)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _named(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; what is none is left to the API server."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
