"""The console of a cluster's gateway: the page with its libraries, and what it knows of a service, with the chart's
rights."""

from __future__ import annotations

from typing import Any

from harness import release
from harness.chat import Client
from harness.service import Service

URL = f"http://{release.NAME}-gateway.{release.NAMESPACE}.svc.cluster.local"


def test_the_page_shows_a_service_with_its_events_replicas_and_reasons(service: Service, client: Client) -> None:
    service.create(scaling={"maxReplicas": 2}).wait_ready()

    def asked() -> Any:
        return client.run("console", URL, service.full_name)

    told = asked()
    assert 'type="module"' in told["page"], "the image has the libraries"
    assert told["files"] and service.full_name in told["names"]
    assert told["service"]["plan"]["engine"] == "LlamaCpp" and told["service"]["plan"]["memory"]
    assert {one["engine"] for one in told["service"]["plan"]["rejected"]} == {"VLLM", "Transformers"}
    assert told["service"]["manifest"].startswith("apiVersion: llmservice.dev/v1alpha1")
    assert told["service"]["eventsNote"] == "" and told["service"]["events"], "it may list Events"
    (replica,) = told["service"]["replicas"]
    assert (replica["state"], replica["phase"], replica["note"]) == ("Ready", "Ready", "")
    service.wait(lambda: asked()["service"]["scaling"], "the operator explains", 60)
    service.wait(lambda: 1 in asked()["columns"]["ready"], "the history has a row", 60)
