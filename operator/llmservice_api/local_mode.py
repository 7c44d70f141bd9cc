"""Fields that only mean something in a cluster: on one machine they are said to have no effect, never just dropped."""

from __future__ import annotations

from llmservice_api.v1alpha1 import LLMServiceSpec


def cluster_only(spec: LLMServiceSpec) -> tuple[str, ...]:
    """One sentence for every field of the spec that was set and has no effect on one machine."""
    said = []
    if spec.resources.model_fields_set:
        said.append("spec.resources has no effect on one machine: a replica uses what the plan shows.")
    if spec.prepare.model_fields_set:
        said.append("spec.prepare has no effect on one machine: models are read and downloaded without Jobs.")
    if spec.service_account_name is not None:
        said.append("spec.serviceAccountName has no effect on one machine.")
    if spec.cache.model_fields_set:
        said.append("spec.cache has no effect on one machine: models are kept in LLMSERVICE_CACHE_DIR.")
    if spec.accelerator.resource_name is not None:
        said.append("spec.accelerator.resourceName has no effect on one machine: its GPUs are found by themselves.")
    if spec.engine.image is not None:
        said.append("spec.engine.image has no effect on one machine: engines are installed, see llmservice install.")
    if spec.rollout.model_fields_set:
        said.append("spec.rollout has no effect on one machine.")
    if spec.endpoint.access is not None:
        said.append("spec.endpoint.access has no effect on one machine: the gateway there is the one way in.")
    if spec.pod_template is not None:
        said.append("spec.podTemplate has no effect on one machine: there are no pods.")
    return tuple(said)
