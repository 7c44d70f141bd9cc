"""status.load: what a replica measured while it loaded, once for each load."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from core_world import World  # type: ignore[import-not-found]

from llmservice_api.loads import load_status
from llmservice_api.status import LLMServiceStatus
from llmservice_operator.status.load import earlier_loads

LOAD: dict[str, Any] = {
    "seconds": 12.3456,
    "phases": {"Loading": 10.5, "SelfTest": 0.25, "Starting": 1.0, "Other": 1},
    "predicted": {"host": 4 << 30, "files": 7},
    "measured": {"host": 5 << 30},
    "memory": [
        {"name": "weights", "where": "Host", "predicted": 3 << 30, "measured": 3 << 30},
        {"name": "engine and its buffers", "where": "Host", "predicted": 1 << 30, "measured": (2 << 30) - 1},
        {"name": "reserve", "where": "Host", "predicted": 1, "measured": None},
    ],
    "tokens_per_second": 17.6,
    "prompt_tokens_per_second": 812.4,
    "together_tokens_per_second": 0.3,
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
    "memory": [
        {"name": "weights", "where": "Host", "planned": "3072Mi", "measured": "3072Mi"},
        {"name": "engine and its buffers", "where": "Host", "planned": "1024Mi", "measured": "2048Mi"},
        {"name": "reserve", "where": "Host", "planned": "1Mi"},
    ],
    "tokensPerSecond": 18,
    "promptTokensPerSecond": 812,
    "togetherTokensPerSecond": 1,
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


def test_what_plans_took_is_kept_for_who_returns_to_them(world: World) -> None:
    world.served()
    told(world)
    first = world.service["status"]["load"]
    assert "earlierLoads" not in world.service["status"]
    for context in (1024, 512):
        world.edit(contextTokens=context).pass_()
        world.rolled_out().pass_()
        told(world, {**LOAD, "seconds": context / 100})
    second = {"revision": world.service["status"]["earlierLoads"][0]["revision"], "milliseconds": 10240}
    kept = [second, {"revision": first["revision"], "milliseconds": first["milliseconds"]}]
    assert world.service["status"]["earlierLoads"] == kept and second["revision"] != first["revision"]
    assert len(LLMServiceStatus.model_validate(world.service["status"]).earlier_loads) == 2
    assert world.pass_() == []
    world.edit(contextTokens=1024).pass_()
    world.rolled_out().pass_()
    assert second in world.service["status"]["earlierLoads"], "until it is measured anew"
    told(world, {**LOAD, "seconds": 7.0})
    assert world.service["status"]["load"]["milliseconds"] == 7000
    assert second["revision"] not in [one["revision"] for one in world.service["status"]["earlierLoads"]]


def test_the_times_of_few_plans_are_kept() -> None:
    kept: list[dict[str, Any]] = []
    for number in range(20):
        load = {"revision": f"r{number}", "milliseconds": number, "pod": "a"}
        kept = earlier_loads({"load": load, "earlierLoads": kept}, "new", None)
    assert [one["revision"] for one in kept] == [f"r{number}" for number in range(19, 11, -1)]


@pytest.mark.parametrize(
    "change",
    [
        {"memory": [{"name": "weights"}]},
        {"memory": {}},
        {"seconds": "x"},
        {"phases": []},
        {"findings": None},
        {"measured": {"host": "1"}},
        {"seconds": float("inf")},
        {"prompt_tokens_per_second": "fast"},
        {"together_tokens_per_second": 1e300},
    ],
)
def test_what_makes_no_sense_is_not_shown(change: dict[str, Any]) -> None:
    assert load_status({**LOAD, **change}) is None
    assert load_status({}) is None


def test_what_a_replica_says_is_bounded() -> None:
    found = load_status({**LOAD, "findings": ["x" * 5000] * 100})
    assert found is not None and [len(said) for said in found.findings] == [1024] * 8
