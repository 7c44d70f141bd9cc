"""What status says of a service whose replicas follow demand, and that it says it once."""

from __future__ import annotations

import dataclasses

import pytest
from core_world import CONFIG, World  # type: ignore[import-not-found]

from llmservice_operator.facts.config import Gateway
from llmservice_scaling.told import ScalingTold

GATEWAY = dataclasses.replace(CONFIG, gateway=Gateway("llmservice-gateway", ()))
BOUNDS = {"minReplicas": 0, "maxReplicas": 4}
TOLD = ScalingTold(1, "Wanted", "3 requests held and in flight at 6 a replica want 1", "")


@pytest.fixture
def scaled() -> World:
    world = World(GATEWAY).edit(scaling=BOUNDS).served()
    world.scaling = TOLD
    world.pass_()
    return world


def test_zero_replicas_need_a_gateway() -> None:
    world = World(CONFIG).edit(scaling=BOUNDS)
    world.pass_()
    found = world.condition("SpecValid")
    assert found["status"] == "False"
    assert "spec.scaling.minReplicas is 0, and this installation has no gateway" in found["message"]
    world.edit(scaling={"minReplicas": 1, "maxReplicas": 4}).pass_()
    assert world.condition("SpecValid")["status"] == "True"
    world.edit(scaling={"mode": "Fixed", **BOUNDS}).pass_()
    assert world.condition("SpecValid")["status"] == "True"


def test_a_schedule_that_cant_be_read_is_refused_by_name() -> None:
    schedule = {"start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "replicas": 2}
    for wrong, said in (
        ({"start": "61 8 * * *"}, "spec.scaling.schedules[1].start `61 8 * * *` can't be read"),
        ({"timeZone": "Mars/Olympus"}, "spec.scaling.schedules[1].timeZone `Mars/Olympus` is not known"),
    ):
        world = World(GATEWAY).edit(scaling={**BOUNDS, "schedules": [schedule, {**schedule, **wrong}]})
        world.pass_()
        found = world.condition("SpecValid")
        assert found["status"] == "False" and said in found["message"]


def test_without_scaling_nothing_is_said_of_it() -> None:
    world = World(GATEWAY).served()
    kinds = {condition["type"] for condition in world.service["status"]["conditions"]}
    assert "scaling" not in world.service["status"] and not kinds & {"MetricsAvailable", "ScalingActive"}


def test_a_decision_is_told_once_and_only_another_number_tells_anew(scaled: World) -> None:
    said = {"desiredReplicas": 1, "reason": "Wanted", "message": f"{TOLD.message}."}
    assert scaled.service["status"]["scaling"] == said
    assert scaled.condition("MetricsAvailable")["status"] == "True"
    assert scaled.condition("ScalingActive")["message"] == "Demand decides, within 0 to 4 replicas."
    scaled.scaling = dataclasses.replace(TOLD, reason="Steady", message="other words")
    assert scaled.pass_() == []
    scaled.scaling = ScalingTold(3, "Wanted", "more", "", "2026-01-01T00:00:00Z")
    assert scaled.pass_() == ["status"]
    assert scaled.service["status"]["scaling"] == {
        "desiredReplicas": 3,
        "reason": "Wanted",
        "message": "more.",
        "lastScaleTime": "2026-01-01T00:00:00Z",
    }


def test_a_new_leader_changes_nothing_until_it_decides_otherwise(scaled: World) -> None:
    scaled.scaling = ScalingTold(3, "Wanted", "more", "", "2026-01-01T00:00:00Z")
    scaled.pass_()
    scaled.scaling = None
    assert scaled.pass_() == []
    scaled.scaling = ScalingTold(3, "Steady", "what there is")
    assert scaled.pass_() == []
    scaled.scaling = ScalingTold(2, "Lowered", "less")
    assert scaled.pass_() == ["status"]
    assert scaled.service["status"]["scaling"]["lastScaleTime"] == "2026-01-01T00:00:00Z"


def test_each_wake_without_a_cache_downloads_and_says_so(scaled: World) -> None:
    assert "and whoever wakes the service waits for that" in scaled.condition("Cached")["message"]
    scaled.edit(scaling={"minReplicas": 1, "maxReplicas": 4}).pass_()
    assert scaled.condition("Cached")["message"].startswith("Every replica downloads the model when it starts. ")


def test_a_managed_zero_is_idle_and_a_persons_zero_is_stopped(scaled: World) -> None:
    scaled.edit(replicas=0).pass_()
    scaled.rolled_out().pass_()
    ready = scaled.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Idle")
    assert ready["message"] == "Nobody asks for it now; a request waits and starts it."
    assert scaled.condition("Available")["status"] == "False"
    assert scaled.service["status"]["ready"] == "0/0"
    for mode, reason in (("External", "Idle"), ("Fixed", "Stopped")):
        scaled.edit(scaling={"mode": mode, "maxReplicas": 1}).pass_()
        assert scaled.condition("Ready")["reason"] == reason
        assert scaled.condition("ScalingActive")["reason"] == mode
    scaled.edit(scaling={"dryRun": True, "maxReplicas": 1}).pass_()
    assert scaled.condition("Ready")["reason"] == "Stopped", "nobody starts it"
    assert scaled.condition("ScalingActive")["reason"] == "DryRun"


def test_an_idle_service_whose_edit_cant_be_carried_out_is_not_ready(scaled: World) -> None:
    scaled.edit(replicas=0).pass_()
    scaled.rolled_out().edit(contextTokens=90_000_000).pass_()
    assert scaled.condition("Ready")["status"] == "False"


def test_what_is_not_known_is_told_with_a_warning(scaled: World) -> None:
    scaled.notes.clear()
    scaled.scaling = TOLD.knows("requests was not told (no gateway renews its Lease)")
    assert scaled.pass_() == ["status"]
    found = scaled.condition("MetricsAvailable")
    assert (found["status"], found["reason"]) == ("False", "MetricsMissing")
    assert "no replica goes: requests was not told (no gateway renews its Lease)." in found["message"]
    assert [(note.type, note.reason) for note in scaled.notes] == [("Warning", "MetricsMissing")]


def test_what_scale_refuses_is_told(scaled: World) -> None:
    scaled.scaling = TOLD.refused("forbidden: no rights")
    scaled.pass_()
    found = scaled.condition("ScalingActive")
    assert (found["status"], found["reason"]) == ("False", "WriteRefused")
    assert found["message"] == "Demand wants 1 replicas, and that is refused: forbidden: no rights"


def test_one_claim_for_one_node_allows_one_replica() -> None:
    claim = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "1Gi"}}
    world = World(GATEWAY).edit(cache=claim, scaling={"maxReplicas": 2})
    world.pass_()
    found = world.condition("SpecValid")
    assert found["status"] == "False"
    assert "spec.scaling: maxReplicas is more than 1" in found["message"] and "ReadWriteOnce" in found["message"]
    world.edit(scaling={"maxReplicas": 1, "minReplicas": 0}).pass_()
    assert world.condition("SpecValid")["status"] == "True"
