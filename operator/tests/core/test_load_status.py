"""status.load: what a replica measured while it loaded, once for each load."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from core_world import World  # type: ignore[import-not-found]

from llmservice_api.loads import load_status
from llmservice_api.v1alpha1 import LLMServiceStatus

LOAD: dict[str, Any] = {
    "seconds": 12.3456,
    "phases": {"Loading": 10.5, "SelfTest": 0.25, "Starting": 1.0, "Other": 1},
    "predicted": {"host": 4 << 30, "files": 7},
    "measured": {"host": 5 << 30},
    "tokens_per_second": 17.6,
    "findings": ["It took more."],
}
SHOWN = {
    "milliseconds": 12346,
    "phases": [
        {"name": "Starting", "milliseconds": 1000},
        {"name": "Loading", "milliseconds": 10500},
        {"name": "SelfTest", "milliseconds": 250},
    ],
    "plannedMemory": "4096Mi",
    "measuredMemory": "5120Mi",
    "tokensPerSecond": 18,
    "findings": ["It took more."],
}


def told(world: World, load: dict[str, Any] | None = None, name: str = "") -> list[str]:
    """The newest replica, or the one of that name, tells how it loaded; what is written then."""
    pods = [obj for obj in world.of("Pod") if "demo-" in obj["metadata"]["name"] and obj["spec"]]
    pod = next((pod for pod in pods if pod["metadata"]["name"] == name), pods[-1])
    pod["metadata"]["uid"] = uid = f"u-{pod['metadata']['name']}"
    world.loads = {**world.loads, uid: copy.deepcopy(load or LOAD)}
    written: list[str] = world.pass_()
    return written


def test_a_load_is_written_once_and_stays_when_nobody_can_tell_it(world: World) -> None:
    world.served()
    assert "load" not in world.service["status"]
    assert told(world) == ["status"]
    load = world.service["status"]["load"]
    assert {name: value for name, value in load.items() if name not in ("pod", "revision")} == SHOWN
    assert load["revision"] == world.service["status"]["currentRevision"] and load["pod"].startswith("demo-")
    assert LLMServiceStatus.model_validate(world.service["status"]).load is not None
    assert world.pass_() == []
    world.loads = {}
    assert world.pass_() == []
    assert world.service["status"]["load"] == load


def test_other_replicas_of_the_plan_change_nothing_and_a_restart_does(world: World) -> None:
    world.edit(replicas=2).served()
    told(world)
    first = world.service["status"]["load"]["pod"]
    other = next(pod for pod in world.of("Pod") if pod["spec"] and pod["metadata"]["name"] != first)
    assert told(world, {**LOAD, "seconds": 99.0}, other["metadata"]["name"]) == []
    assert told(world, {**LOAD, "seconds": 50.0}, first) == ["status"]
    assert world.service["status"]["load"]["milliseconds"] == 50_000


def test_another_plan_has_another_load(world: World) -> None:
    world.served()
    told(world)
    world.edit(contextTokens=1024).pass_()
    world.rolled_out().pass_()
    assert "load" not in world.service["status"]


@pytest.mark.parametrize(
    "change",
    [{"seconds": "x"}, {"phases": []}, {"findings": None}, {"measured": {"host": "1"}}, {"seconds": float("inf")}],
)
def test_what_makes_no_sense_is_not_shown(change: dict[str, Any]) -> None:
    assert load_status({**LOAD, **change}) is None
    assert load_status({}) is None


def test_what_a_replica_says_is_bounded() -> None:
    found = load_status({**LOAD, "findings": ["x" * 5000] * 100})
    assert found is not None and [len(said) for said in found.findings] == [1024] * 8
