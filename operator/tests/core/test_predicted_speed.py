"""status.plan.speed: what the plan predicts, of the plan in force and of one that an earlier release made."""

from __future__ import annotations

import dataclasses
from typing import Any

from core_world import CONFIG, FACTS, GPU_CONFIG, L4_NODES, PREPARED, World  # type: ignore[import-not-found]

from llmservice_api.status import LLMServiceStatus
from llmservice_runtime.estimate.speed import NOT_MEASURED
from llmservice_runtime.formats.facts import Reads

READS = Reads(4 * 10**9, 8 * 10**8)
MODEL = dataclasses.replace(PREPARED, facts=dataclasses.replace(FACTS, reads=READS))


def served(world: World) -> World:
    world.pass_()
    for _ in range(2):
        world.prepared(MODEL).pass_()
    return world


def speed(world: World) -> dict[str, Any] | None:
    status = world.service["status"]
    assert LLMServiceStatus.model_validate(status)
    found: dict[str, Any] | None = status["plan"].get("speed")
    return found


def test_a_gpu_that_is_known_bounds_it() -> None:
    found = speed(served(World(GPU_CONFIG, L4_NODES)))
    assert found and found["tokensPerSecond"] == 62, "300 GB/s over 4.8 GB"
    assert 0 < found["fullTokensPerSecond"] < 62 < found["togetherTokensPerSecond"]
    assert "unknown" not in found


def test_what_nodes_read_is_not_known() -> None:
    assert speed(served(World(CONFIG))) == {"unknown": NOT_MEASURED}


def test_a_plan_of_an_earlier_release_stays_as_it_is() -> None:
    world = served(World(GPU_CONFIG, L4_NODES))
    (revision,) = world.of("ControllerRevision")
    del revision["data"]["plan"]["speed"]
    before = world.get("Deployment")["spec"]
    assert world.pass_() == ["status"] and speed(world) is None
    assert world.get("Deployment")["spec"] == before and world.pass_() == []
    revision["data"]["plan"]["speed"] = {"tokens_per_second": "fast"}
    assert world.pass_() == [] and speed(world) is None, "what another release keeps may be anything"


def test_another_bandwidth_makes_no_other_plan() -> None:
    world = served(World(GPU_CONFIG, L4_NODES))
    world.config = dataclasses.replace(GPU_CONFIG, gpu_bandwidth=(("NVIDIA-L4", 10**12),))
    assert world.pass_() == [], "it is in no pod"
    assert world.edit(rollout={"upgradePolicy": "Follow"}).pass_() is not None
    follows = world.of("ControllerRevision")
    world.config = GPU_CONFIG
    assert world.pass_() == [] and world.of("ControllerRevision") == follows
