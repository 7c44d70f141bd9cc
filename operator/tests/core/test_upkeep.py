"""A spec that can't be carried out stops nothing that runs: what the service owns comes back, and it is scaled."""

from __future__ import annotations

import pytest
from core_world import World  # type: ignore[import-not-found]

from llmservice_operator.facts.values import Refused
from llmservice_runtime.contract.failure import FailureClass

NOT_OURS = {"spec": {"containers": [{"name": "runtime", "image": "x"}]}}
CACHE = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "9Gi"}}


@pytest.fixture
def invalid() -> World:
    """It serves the version before an edit that only the operator refuses."""
    world = World().served()
    world.edit(podTemplate=NOT_OURS).pass_()
    assert world.condition("Ready")["reason"] == "ServingEarlierSpec"
    return world


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "PodDisruptionBudget"])
def test_what_it_owns_comes_back(invalid: World, kind: str) -> None:
    before = invalid.objects.pop((kind, "demo"))
    assert invalid.pass_()[0] == f"{kind} demo"
    assert invalid.get(kind)["metadata"]["labels"] == before["metadata"]["labels"]
    assert invalid.condition("Ready")["reason"] == "ServingEarlierSpec"
    assert invalid.service["status"]["url"]


def test_a_deployment_comes_back_with_the_plan_that_was_in_force(invalid: World) -> None:
    before = invalid.objects.pop(("Deployment", "demo"))
    revision = invalid.service["status"]["currentRevision"]
    invalid.pass_()
    assert invalid.get("Deployment")["spec"] == before["spec"]
    assert invalid.service["status"]["currentRevision"] == revision
    invalid.rolled_out().pass_()
    assert invalid.condition("Ready")["reason"] == "ServingEarlierSpec"


def test_its_plan_is_not_forgotten_while_the_deployment_is_refused(invalid: World) -> None:
    invalid.objects.pop(("Deployment", "demo"))
    invalid.refused = (Refused("Deployment", "demo", "Forbidden", "exceeded quota"),)
    invalid.pass_()
    invalid.refused = ()
    assert "Deployment demo" in invalid.pass_()


def test_a_deployment_comes_back_too_while_another_model_can_t_be_read() -> None:
    world = World().served()
    world.edit(model={"uri": "hf://a/typo"}).pass_()
    world.prepare_failed(FailureClass.MODEL_NOT_FOUND, "There is none.", "Correct it.")
    world.pass_()
    before = world.objects.pop(("Deployment", "demo"))
    world.pass_()
    assert world.get("Deployment")["spec"] == before["spec"]


@pytest.mark.parametrize("replicas", [0, 3])
def test_it_is_scaled(invalid: World, replicas: int) -> None:
    invalid.edit(replicas=replicas).pass_()
    assert invalid.get("Deployment")["spec"]["replicas"] == replicas


def test_it_recovers_when_a_foreign_service_goes() -> None:
    world = World().served()
    world.refused = (Refused("Service", "demo", "NameConflict", ""),)
    world.objects.pop(("Service", "demo"))
    world.edit(podTemplate=NOT_OURS).pass_()
    assert world.condition("Ready")["reason"] == "NameConflict"
    assert world.look().requeue_after is not None
    world.refused = ()
    assert "Service demo" in world.pass_()
    assert world.condition("Ready")["reason"] == "ServingEarlierSpec"


def test_what_never_ran_is_not_made() -> None:
    world = World()
    world.edit(podTemplate=NOT_OURS).pass_()
    assert world.objects == {}


def test_a_claim_that_is_gone_is_not_made_anew_without_the_model() -> None:
    world = World()
    world.edit(cache=CACHE).served()
    world.edit(podTemplate=NOT_OURS).pass_()
    for place in (("Deployment", "demo"), ("PersistentVolumeClaim", "demo-models")):
        world.objects.pop(place)
    world.pass_()
    assert ("Deployment", "demo") not in world.objects
    assert ("PersistentVolumeClaim", "demo-models") not in world.objects


def test_a_service_that_leads_elsewhere_is_none() -> None:
    world = World().served()
    world.get("Service")["spec"]["type"] = "ExternalName"
    world.refused = (Refused("Service", "demo", "Forbidden", "no"),)
    world.pass_()
    assert world.condition("Ready")["status"] == "False"
    assert "url" not in world.service["status"]
