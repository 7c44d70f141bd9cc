"""helm install, upgrade, uninstall, and install again: what runs goes on."""

from __future__ import annotations

from typing import Any

import pytest

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.operator import wait_operator
from harness.service import QUESTION, Service

CRD = "llmservices.llmservice.dev"

pytestmark = pytest.mark.alone


def running(service: Service) -> list[str]:
    """The uids of what must not be replaced."""
    kinds = ("deployments", "replicasets", "controllerrevisions", "pods")
    items = [item for kind in kinds for item in service.api.list(kind, service.namespace, "llmservice.dev/name=demo")]
    return sorted(item["metadata"]["uid"] for item in items)


def test_an_upgrade_restarts_no_model(service: Service, api: Api, installed: dict[str, Any]) -> None:
    service.create().wait_ready()
    before, template = running(service), _template(service)
    changed = {**installed, "logLevel": "DEBUG", "runtime": {**installed["runtime"], "environment": {"NEW": "default"}}}
    try:
        release.install(changed)
        service.edit(replicas=2)  # whoever leads now has looked at it
        service.wait_ready(2)
        assert set(before) < set(running(service))
        assert _template(service) == template
    finally:
        release.install(installed)


def test_uninstall_keeps_what_runs_and_install_takes_it_over(
    service: Service, client: Client, api: Api, installed: dict[str, Any]
) -> None:
    service.create(endpoint={"access": "Direct"}).wait_ready()
    before = running(service)
    release.uninstall()
    try:
        assert not api.list("deployments", release.NAMESPACE)
        assert api.find("customresourcedefinitions", "", CRD)
        assert running(service) == before
        assert client.chat(service.status()["url"], QUESTION) == trained_answer(QUESTION)
    finally:
        release.install(installed)
    wait_operator(api)
    service.edit(replicas=2)
    service.wait_ready(2)
    assert set(before) < set(running(service))


def _template(service: Service) -> Any:
    return service.api.get("deployments", service.namespace, "demo")["spec"]["template"]
