"""Fields for clusters are told, not dropped, on one machine."""

from __future__ import annotations

import pytest

from llmservice_api.local_mode import cluster_only
from llmservice_api.v1alpha1 import LLMServiceSpec


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ()),
        ({"accelerator": {"count": 1}}, ()),
        ({"resources": {"limits": {"memory": "2Gi"}}}, ("spec.resources",)),
        ({"serviceAccountName": "qwen"}, ("spec.serviceAccountName",)),
        ({"engine": {"type": "LlamaCpp", "image": "r:1"}}, ("spec.engine.image",)),
        ({"rollout": {"upgradePolicy": "Follow"}}, ("spec.rollout",)),
        ({"podTemplate": {"spec": {"priorityClassName": "high"}}}, ("spec.podTemplate",)),
        ({"cache": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "m"}}}, ("spec.cache",)),
        ({"cache": {"type": "HostPath", "hostPath": {"path": "/models"}}}, ("spec.cache",)),
        ({"accelerator": {"resourceName": "nvidia.com/gpu"}}, ("spec.accelerator.resourceName",)),
    ],
)
def test_every_field_of_clusters_has_its_sentence(fields: dict[str, object], told: tuple[str, ...]) -> None:
    spec = LLMServiceSpec.model_validate({"model": {"uri": "file:///m.gguf"}, **fields})
    assert tuple(sentence.split()[0] for sentence in cluster_only(spec)) == told
