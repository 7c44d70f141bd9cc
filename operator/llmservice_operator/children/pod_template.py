"""`spec.podTemplate` merged into a replica's pod, and the part of it that the preparing Jobs share."""

from __future__ import annotations

from collections.abc import Mapping

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.merge import Json, Merge
from llmservice_operator.facts.pod_fields import FETCH, mapping, runtime_container

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
        pod["affinity"] = {n: v for n, v in mapping(pod["affinity"]).items() if n == "nodeAffinity"}
    parts = {
        **_metadata(spec),
        "spec": {name: value for name, value in pod.items() if value},
        "container": _shared(spec),
    }
    return parts if any(parts.values()) else {}


def claims_devices(spec: LLMServiceSpec) -> bool:
    """Whether the engine's container takes its accelerators from resource claims (dynamic resource allocation)."""
    resources = runtime_container(spec).get("resources")
    return isinstance(resources, Mapping) and bool(resources.get("claims"))


def _shared(spec: LLMServiceSpec) -> Json:
    container = runtime_container(spec)
    return {name: container[name] for name in JOB_CONTAINER_FIELDS if name in container}


def _metadata(spec: LLMServiceSpec) -> Json:
    template = spec.pod_template
    found = template.metadata.model_dump(exclude_defaults=True) if template else {}
    return {"metadata": found} if found else {}
