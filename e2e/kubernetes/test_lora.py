"""Adapters in pods: one goes live and restarts nothing, a new pod has it at once, a broken one stops nothing."""

from __future__ import annotations

from typing import Any

from harness.chat import Client, trained_answer
from harness.demand import URL, ask
from harness.service import QUESTION, Service

POLITE, COURT = ({"name": name, "uri": f"file:///models/adapters/{name}"} for name in ("polite", "court"))
"""What the runtime's image carries beside the demo model."""
GONE = {"name": "gone", "uri": "file:///models/adapters/nowhere"}
LIVE_SECONDS = 60
"""From an edit until every replica serves what it says."""


def lives(service: Service) -> set[tuple[str, int]]:
    """Each replica's pod, with how often its container was started again."""
    return {
        (pod["metadata"]["uid"], container["restartCount"])
        for pod in service.pods()
        for container in pod["status"].get("containerStatuses", ())
    }


def state(service: Service, name: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = service.status().get("adapters", [])
    return next((entry for entry in entries if entry["name"] == name), {})


def test_an_adapter_goes_live_and_a_new_pod_has_it(service: Service, client: Client) -> None:
    service.create(adapters=[POLITE], replicas=2).wait_ready(2)
    service.wait_condition("AdaptersReady", "True", "AdaptersLoaded")
    assert state(service, "polite")["loadedReplicas"] == 2
    polite = ask(client, URL, f"{service.full_name}:polite")
    assert polite["status"] == 200 and polite["answer"].startswith("Hello!"), polite
    before = lives(service)
    service.edit(adapters=[POLITE, COURT, GONE])
    service.wait(lambda: state(service, "court").get("loadedReplicas") == 2, "court is served", LIVE_SECONDS)
    court = ask(client, URL, f"{service.full_name}:court")
    assert court["status"] == 200 and court["answer"].startswith("Your Majesty"), court
    found = service.wait_condition("AdaptersReady", "False", "ModelNotFound")
    assert "gone" in found["message"] and service.condition("Ready")["status"] == "True"
    assert ask(client, URL, service.full_name)["answer"] == trained_answer(QUESTION)
    assert ask(client, URL, f"{service.full_name}:nobody")["code"] == "model_not_found"
    assert lives(service) == before, "nothing was started again"

    service.api.delete("pods", service.namespace, service.pods()[0]["metadata"]["name"])
    service.wait(lambda: lives(service) != before and len(service.pods()) == 2, "another pod is made")
    service.wait_ready(2)
    service.wait(lambda: state(service, "court").get("loadedReplicas") == 2, "the new pod has it", LIVE_SECONDS)
    service.edit(adapters=[COURT])
    service.wait(
        lambda: ask(client, URL, f"{service.full_name}:polite")["code"] == "model_not_found", "it is taken away"
    )
    assert ask(client, URL, f"{service.full_name}:court")["answer"] == court["answer"]
