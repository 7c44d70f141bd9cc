"""The loop that scales by demand, in fake time: what it writes, when, and what it leaves alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_world import CONFIG  # type: ignore[import-not-found]
from scaling_world import GATEWAY, KEY, LOOK_SECONDS, ScalingWorld  # type: ignore[import-not-found]

from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import Json
from llmservice_operator.control import scaling as module
from llmservice_operator.demand import scaled as reading
from llmservice_scaling.explained import text

FAST = {"minReplicas": 0, "idleSeconds": 60, "scaleDownSeconds": 60}


async def test_from_one_to_many_and_back_to_none_and_up_again() -> None:
    world = ScalingWorld(**FAST)
    assert await world.turn() == 1
    assert await world.turn(held=10, in_flight=30) == 4, "40 at 12.2 a replica"
    assert await world.turn(in_flight=5) == 4
    assert await world.turn(62.0) == 3
    assert await world.turn(42.0) == 1
    assert await world.turn(30.0, held=0) == 1
    assert await world.turn(100.0) == 0
    assert world.recorder.said[-1][1].startswith("Scaled from 1 to 0 replicas: nobody asked for 6")
    assert await world.turn(held=1) == 1
    assert world.writes == [4, 3, 2, 1, 0, 1]
    assert [reason for reason, _ in world.recorder.said] == ["Scaled"] * 6


async def test_prompts_that_wait_raise_once_a_replica_has_told_its_speed() -> None:
    world = ScalingWorld(**FAST)
    many = {"held": 4, "in_flight": 2, "waiting_tokens": 30_000}
    assert await world.turn(**many) == 1
    assert "nothing to measure it against" in text(world.scaling.explain(KEY) or {})
    load = {"milliseconds": 1, "promptTokensPerSecond": 5_000, "togetherTokensPerSecond": 400}
    world.world.service["status"]["load"] = load
    world.changed()
    assert await world.turn() == 5, "8.6 s of work in 2, where one starts at once"
    assert "backlog (seconds of work per second, what waits in 2 s)" in text(world.scaling.explain(KEY) or {})


async def test_a_held_request_wakes_at_once_between_two_looks() -> None:
    world = ScalingWorld(replicas=0, **FAST)
    assert await world.turn(100.0) == 0
    assert world.writes == []
    world.gateways["a"] = type(world.gateways["a"])(held=1)
    before = world.now
    assert await world.turn(0.1, urgent=True) == 1
    assert world.now - before < LOOK_SECONDS


async def test_nothing_is_known_so_nothing_goes() -> None:
    world = ScalingWorld(replicas=3, **FAST)
    await world.turn()
    world.gateways.clear()
    assert await world.turn(3600.0) == 3
    told = world.scaling.told(KEY)
    assert told is not None and told.unknown
    assert told.unknown.endswith("(no gateway renews its Lease)")
    body = world.scaling.explain(KEY)
    assert body is not None
    assert body["notes"] == ["Not everything is told: no gateway renews its Lease."]


async def test_a_replica_that_does_not_answer_holds_and_still_lets_more_come() -> None:
    world = ScalingWorld(replicas=2, **FAST)
    world.deaf = True
    assert await world.turn(600.0) == 2
    assert await world.turn(in_flight=40) == 4


async def test_where_no_gateway_is_installed_engines_alone_tell() -> None:
    world = ScalingWorld(CONFIG, minReplicas=1, scaleDownSeconds=60)
    world.gateways.clear()
    world.busy["demo-0"] = 40
    assert await world.turn(4.0) == 4
    world.busy["demo-0"] = 0
    assert await world.turn(100.0) == 1
    assert world.scaling.told(KEY).unknown == ""


async def test_a_new_leader_begins_its_window_at_what_it_finds() -> None:
    world = ScalingWorld(replicas=5, minReplicas=1, scaleDownSeconds=60)
    world.busy["demo-0"] = 1
    await world.turn(30.0)
    world.lead()
    assert await world.turn(58.0) == 5
    assert await world.turn(6.0) == 4, "one window later, without a new request"
    assert await world.turn(62.0) == 1, "in steps"


async def test_idle_services_cost_no_write_and_no_status() -> None:
    world = ScalingWorld(replicas=0, **FAST)
    await world.turn(4.0)
    world.world.pass_()
    woken = world.woken
    await world.turn(600.0)
    assert world.writes == [] and world.woken == woken
    assert world.world.pass_() == []


async def test_somebody_who_scales_is_overruled_and_told() -> None:
    world = ScalingWorld(minReplicas=1)
    await world.turn()
    for asked in (7, 0):
        world.person(asked)
        assert await world.turn() == 1
        reason, message = world.recorder.said[-1]
        assert reason == "ScaleOverridden"
        assert message.startswith(f"Somebody scaled it to {asked}, and demand decides: 1 are asked for again")
    assert world.writes == [1, 1]


async def test_what_is_found_first_is_nobodys_overruling() -> None:
    world = ScalingWorld(replicas=6, minReplicas=1, scaleDownSeconds=60)
    assert await world.turn() == 6
    assert world.recorder.said == []


@pytest.mark.parametrize("mode", ["External", "Fixed"])
async def test_where_demand_does_not_decide_nothing_is_looked_at(mode: str) -> None:
    world = ScalingWorld(mode=mode, minReplicas=2)
    assert await world.turn(100.0, held=50) == 1
    assert world.writes == [] and world.scaling.explain(KEY) is None


async def test_a_dry_run_tells_and_does_nothing() -> None:
    world = ScalingWorld(dryRun=True, minReplicas=1)
    assert await world.turn(10.0, held=50) == 1
    assert world.writes == []
    assert world.scaling.told(KEY).desired == 5
    assert [reason for reason, _ in world.recorder.said] == ["DryRun"]
    assert "scaled from 1 to 5" in world.recorder.said[0][1]
    body = world.scaling.explain(KEY)
    assert body["changes"][-1]["carriedOut"] is False
    assert "not carried out" in text(body)
    world.person(3)
    assert await world.turn() == 3, "a person's number stands"


async def test_a_cache_that_lags_is_no_reason_to_write_twice() -> None:
    world = ScalingWorld(minReplicas=1)
    await world.turn()
    stale = world.get(None, *KEY)
    world.get = lambda *_: json.loads(json.dumps(stale))
    await world.turn(in_flight=40)
    await world.turn(4.0)
    assert world.writes == [4]
    assert [reason for reason, _ in world.recorder.said] == ["Scaled"]


async def test_what_scale_refuses_is_told_and_tried_again_later() -> None:
    world = ScalingWorld(minReplicas=1)
    world.refuses = ApiError("scale", 403, "Forbidden", "no rights")
    assert await world.turn(10.0, in_flight=40) == 1
    assert world.scaling.told(KEY).error == "no rights"
    world.refuses = None
    assert await world.turn(20.0) == 1
    assert await world.turn(10.0) == 4
    assert world.scaling.told(KEY).error == ""


async def test_idle_replicas_are_the_cheapest_to_end() -> None:
    world = ScalingWorld(replicas=5, minReplicas=1, scaleDownSeconds=60)
    world.busy = {"demo-1": 3, "demo-4": 1}
    assert await world.turn(130.0, in_flight=4) == 1
    assert world.costs == {"demo-1": "3", "demo-4": "1"}


async def test_a_schedule_keeps_some_warm_and_a_target_says_what_one_is_to_have() -> None:
    schedule = {"start": "0 1 * * *", "end": "0 2 * * *", "replicas": 3}  # the world's clock begins 16 minutes after 0
    world = ScalingWorld(schedules=[schedule], target={"requestsPerReplica": 2}, **FAST)
    assert await world.turn(in_flight=4) == 2
    assert await world.turn(600.0, in_flight=0) == 0
    assert await world.turn(2400.0) == 3
    assert world.recorder.said[-1][1] == "Scaled from 0 to 3 replicas: a schedule keeps 3 warm now."
    assert await world.turn(4000.0) == 0


async def test_bounds_hold_whatever_is_known() -> None:
    world = ScalingWorld(replicas=1, minReplicas=3, maxReplicas=3)
    world.gateways.clear()
    world.deaf = True
    assert await world.turn() == 3
    world.world.edit(scaling={"minReplicas": 1, "maxReplicas": 2})
    world.changed()
    assert await world.turn() == 2


async def test_a_service_that_a_bug_of_ours_can_not_read_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = reading.scaled

    def scaled(service: Json, *more: Any) -> Any:
        if service["metadata"]["name"].startswith("bad"):
            raise RuntimeError("a bug")
        return real(service, *more)

    monkeypatch.setattr(module, "scaled", scaled)
    world = ScalingWorld()
    get = world.get

    def named(kind: object, namespace: str, name: str) -> Json:
        service: Json = get(kind, namespace, name)
        return service | {"metadata": service["metadata"] | {"name": name}}

    monkeypatch.setattr(world, "get", named)
    for number in range(20):
        world.scaling.changed([("apps", f"bad-{number}")])
    assert await world.turn(in_flight=30) > 1
    assert "apps/bad-7: reading what there is to scale failed by a bug" in caplog.text


async def test_a_service_of_another_installation_is_left_alone() -> None:
    world = ScalingWorld(minReplicas=2)
    world.world.service["status"]["installation"] = "elsewhere"
    world.changed()
    assert await world.turn(10.0) == 1
    assert world.writes == []


async def test_what_is_explained_has_each_signal_and_the_last_decisions() -> None:
    world = ScalingWorld(**FAST)
    await world.turn(held=10, in_flight=30)
    body = json.loads(json.dumps(world.scaling.explain(KEY), allow_nan=False))
    assert (body["service"], body["replicas"], body["before"], body["reason"]) == ("apps/demo", 4, 1, "Wanted")
    signal = body["signals"][0]
    assert (signal["name"], signal["value"], signal["target"], signal["raw"]) == ("requests", 40, 12.156, 3.291)
    assert (signal["replicas"], signal["limited"], signal["bounded"]) == (4, 4, 4)
    assert body["changes"][0]["replicas"] == 4
    said = text(body)
    assert "apps/demo: 4 replicas, before 1 (Wanted)" in said
    assert "requests (requests held and in flight)" in said
    assert "1 -> 4  Wanted: 40 requests held and in flight at 12.2 a replica want 4" in said


def test_the_world_has_a_gateway() -> None:
    assert GATEWAY.has_gateway and not CONFIG.has_gateway
