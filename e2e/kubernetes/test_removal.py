"""Deletion leaves nothing behind, in the middle of anything, and with the operator gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import release
from harness.api import Api
from harness.programs import kubectl
from harness.service import Service

KINDS = [
    "llmservices", "deployments", "replicasets", "pods", "services", "serviceaccounts", "poddisruptionbudgets",
    "networkpolicies", "jobs",
    "controllerrevisions", "persistentvolumeclaims", "configmaps", "secrets", "endpointslices",
]  # fmt: skip


def left(service: Service) -> list[str]:
    """What a namespace has beyond what every namespace has."""
    found = {
        f"{kind}/{item['metadata']['name']}" for kind in KINDS for item in service.api.list(kind, service.namespace)
    }
    return sorted(found - {"serviceaccounts/default", "configmaps/kube-root-ca.crt"})


def wait_gone(service: Service) -> None:
    service.delete()
    service.wait(lambda: not left(service), "nothing is left")


def test_of_a_running_service(service: Service) -> None:
    service.create().wait_ready()
    assert len({name.split("/")[0] for name in left(service)}) > 8
    wait_gone(service)


def test_in_the_middle_of_preparing(service: Service, api: Api) -> None:
    service.create()
    service.wait(lambda: api.list("jobs", service.namespace), "the Job that prepares")
    wait_gone(service)


def test_in_the_middle_of_a_start(service: Service) -> None:
    service.create()
    service.wait(service.pods, "a replica's pod")
    wait_gone(service)


@pytest.fixture
def operator_gone(service: Service, api: Api) -> Iterator[None]:
    """After the service is ready, no operator."""
    service.create().wait_ready()
    name = ("--namespace", release.NAMESPACE, "scale", f"deployment/{release.NAME}")
    replicas = api.get("deployments", release.NAMESPACE, release.NAME)["spec"]["replicas"]
    kubectl(*name, "--replicas=0")
    try:
        service.wait(
            lambda: not api.list("pods", release.NAMESPACE, "app.kubernetes.io/name=llmservice-operator"), "no operator"
        )
        yield
    finally:
        kubectl(*name, f"--replicas={replicas}")


@pytest.mark.alone
def test_with_the_operator_gone(service: Service, operator_gone: None) -> None:
    wait_gone(service)
