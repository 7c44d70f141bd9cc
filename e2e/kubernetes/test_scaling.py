"""`kubectl scale`, written through to the pods."""

from __future__ import annotations

from harness.programs import kubectl
from harness.service import Service


def scale(service: Service, replicas: int) -> None:
    kubectl("--namespace", service.namespace, "scale", "llmsvc/demo", f"--replicas={replicas}")


def test_scale_up_down_to_zero_and_back(service: Service) -> None:
    service.create().wait_ready()
    first = service.pods()[0]["metadata"]["uid"]
    revision = service.status()["currentRevision"]

    scale(service, 2)
    service.wait_ready(2)
    found = service.api.get("llmservices", service.namespace, "demo", "scale")
    assert (found["spec"]["replicas"], found["status"]["replicas"]) == (2, 2)
    selected = service.api.list("pods", service.namespace, found["status"]["selector"])
    assert {pod["metadata"]["uid"] for pod in selected} == {pod["metadata"]["uid"] for pod in service.pods()}
    assert first in {pod["metadata"]["uid"] for pod in selected}

    scale(service, 0)
    stopped = service.wait_condition("Ready", "False", "Stopped")
    assert "replicas" in stopped["message"]
    service.wait(lambda: not service.pods(), "no replica is left")
    service.wait(lambda: not service.status().get("replicas"), "status.replicas is 0")

    scale(service, 1)
    service.wait_ready(1)
    assert service.status()["currentRevision"] == revision, "scaling makes no plan"
