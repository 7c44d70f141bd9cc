"""What a namespace forbids (quotas, policies, Pod Security), and what kernel and kubelet end for want of room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import release
from harness.api import Api, Json
from harness.hub import start_hub
from harness.service import Service

POLICY = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


def limit_range(api: Api, namespace: str, **default: str) -> None:
    """Containers that state no limit get this one."""
    item = {"type": "Container", "default": default, "defaultRequest": {"memory": "16Mi"}}
    url = f"/api/v1/namespaces/{namespace}/limitranges"
    api.http.post(url, json={"metadata": {"name": "limits"}, "spec": {"limits": [item]}}).raise_for_status()


def test_a_quota_that_leaves_no_room_is_named_and_its_end_is_noticed(api: Api, service: Service) -> None:
    quota = {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "0"}}}
    api.create("resourcequotas", service.namespace, quota)
    service.create()
    found = service.wait_condition("Ready", "False", "WriteRefused")
    assert "exceeded quota: tight" in found["message"]
    assert "ResourceQuota" in found["message"]
    api.delete("resourcequotas", service.namespace, "tight")
    service.wait_ready(seconds=180)


def test_replicas_that_a_quota_refuses_are_named(api: Api, service: Service) -> None:
    service.create().wait_ready()
    quota = {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "1"}}}
    api.create("resourcequotas", service.namespace, quota)
    service.edit(contextTokens=512)
    found = service.wait_condition("Ready", "True", "ServingEarlierSpec", seconds=120)
    assert "exceeded quota: tight" in found["message"]


@pytest.fixture
def policy(api: Api, namespace: str) -> Iterator[str]:
    """An admission policy that takes no Deployment in the test's namespace; what it says."""
    said = "the platform team wants a cost-center label"
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
    matched = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    constraints: Json = {"resourceRules": [rule], "namespaceSelector": matched}
    spec: Json = {"matchConstraints": constraints, "validations": [{"expression": "false", "message": said}]}
    binding: Json = {"policyName": namespace, "validationActions": ["Deny"]}
    for url, body in ((POLICY, spec), (f"{POLICY.removesuffix('ies')}ybindings", binding)):
        api.http.post(url, json={"metadata": {"name": namespace}, "spec": body}).raise_for_status()
    yield said
    for url in (f"{POLICY.removesuffix('ies')}ybindings", POLICY):
        api.http.delete(f"{url}/{namespace}")


def test_what_an_admission_policy_says_is_passed_on(service: Service, policy: str) -> None:
    service.create()
    found = service.wait_condition("Ready", "False", "WriteRefused", seconds=120)
    assert policy in found["message"]
    assert "Deployment" in found["message"]


def test_everything_runs_where_pod_security_is_restricted(api: Api, service: Service, images: release.Images) -> None:
    hub = start_hub(api, service.namespace, images.runtime)
    api.patch("namespaces", "", service.namespace, {"metadata": {"labels": RESTRICTED}})
    service.create(f"{hub}/demo.gguf").wait_ready(seconds=180)


def test_a_container_that_needs_more_memory_than_its_limit(api: Api, service: Service) -> None:
    service.create(resources={"requests": {"cpu": "20m", "memory": "32Mi"}}).wait_ready()
    limit_range(api, service.namespace, memory="96Mi")
    for pod in service.pods():
        api.delete("pods", service.namespace, pod["metadata"]["name"])
    found = service.wait_condition("Ready", "False", "OutOfMemory", seconds=180)
    assert "resources.limits.memory" in found["message"] or "memory limit" in found["message"]
    service.edit(resources={"limits": {"memory": "1Gi"}})
    service.wait_condition("Ready", "True", "Ready", seconds=240)


def test_a_disk_that_is_full(api: Api, service: Service, images: release.Images) -> None:
    hub = start_hub(api, service.namespace, images.runtime)
    limit_range(api, service.namespace, **{"ephemeral-storage": "16Mi"})
    service.create(f"{hub}/large.gguf", resources={"requests": {"cpu": "20m"}})
    found = service.wait_condition("Ready", "False", "DiskFull", seconds=240)
    assert "Raise limits.ephemeral-storage in spec.resources" in found["message"]
    assert "PersistentVolumeClaim" in found["message"]
    service.edit(resources={"limits": {"ephemeral-storage": "512Mi"}})
    service.wait_condition("Ready", "True", "Ready", seconds=240)
