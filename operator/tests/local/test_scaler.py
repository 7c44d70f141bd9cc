"""Demand decides: what a service with spec.scaling does on one machine, in fake time and as a user has it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from machine_world import Here, manifest, until  # type: ignore[import-not-found]

from llmservice_api.status import LoadStatus
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.local.order import Order
from llmservice_cli.local.scaler import NO_ROOM_SECONDS, Scaler
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.demand import Demand
from llmservice_gateway.rates import Rate
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_scaling.explained import text

WALL = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = RuntimeSettings(EngineType.LLAMA_CPP, "/x.gguf", "default/demo", max_sequences=10)


def order(**scaling: int) -> Order:
    spec = {"model": {"uri": "file://x.gguf"}, "scaling": scaling}
    return Order(LLMService.model_validate({"metadata": {"name": "demo"}, "spec": spec}), settings=SETTINGS)


class Service:
    """Every replica that is asked for is ready at once, as far as there is room."""

    def __init__(self, replicas: int, room: int = 100, **scaling: int) -> None:
        self.order, self.room = order(**scaling).scaled(replicas), room
        self.scaler, self.arrivals, self.now = Scaler(), Rate(), 1000.0

    def look(self, seconds: float = 1.0, came: int = 0, held: int = 0, in_flight: int = 0) -> int:
        self.now += seconds
        self.arrivals.add(came, self.now)
        rate = self.arrivals.per_second(self.now)
        demand = Demand("default/demo", held, in_flight, arrivals_per_second=rate, tokens_per_second=rate)
        facts = [ReplicaFacts(str(n), n, ready=n < self.room, held=n >= self.room) for n in range(self.order.replicas)]
        decision = self.scaler.decide(self.order, facts, demand, self.now, WALL)
        if self.order.managed:
            self.order = self.order.scaled(decision.replicas)
        return self.order.replicas


def test_a_request_that_came_and_went_between_two_looks_was_there() -> None:
    service = Service(1, minReplicas=0, maxReplicas=1, idleSeconds=10)
    for _ in range(100):
        assert service.look(9.0, came=1) == 1
    for _ in range(10):
        assert service.look() == 1, "the gateway's rate still fades"
    assert service.look() == 0
    assert service.look(held=1) == 1
    assert service.scaler.said == "1 requests held and in flight at 6 a replica want 1"


def test_a_dry_run_tells_once_what_it_would_do_and_what_is_explained_says_so() -> None:
    service = Service(1, maxReplicas=3, dryRun=True)
    for _ in range(3):
        assert service.look(in_flight=30) == 1
    body = service.scaler.explain("default/demo", service.now)
    assert body["notes"] == ["dryRun is set: this is told, and not done."]
    assert (body["before"], body["replicas"], len(body["changes"])) == (1, 3, 1)
    assert body["changes"][0]["carriedOut"] is False
    service = Service(1, maxReplicas=3)
    service.look(in_flight=30)
    said = text(service.scaler.explain("default/demo", service.now))
    assert "default/demo: 3 replicas, before 1 (MaxReplicas)" in said
    assert "requests (requests held and in flight)" in said


def test_what_finds_no_room_is_not_tried_again_at_once() -> None:
    service = Service(1, room=2, maxReplicas=5)
    assert service.look(in_flight=30) == 5
    assert service.look(in_flight=30) == 2, "three found none"
    for _ in range(int(NO_ROOM_SECONDS) - 1):
        assert service.look(in_flight=30) == 2
    assert service.look(2.0, in_flight=30) == 5


def test_a_replica_that_starts_or_failed_is_not_one_more_to_start() -> None:
    service = Service(2, maxReplicas=5)
    demand = Demand("default/demo", held=10)
    facts = [ReplicaFacts("0", 0), ReplicaFacts("1", 1, gave_up=True)]
    decision = service.scaler.decide(service.order, facts, demand, 1000.0, WALL)
    assert decision.replicas == 2


def test_prompts_that_wait_count_by_the_speed_that_a_replica_measured() -> None:
    service = Service(1, maxReplicas=5)
    demand = Demand("default/demo", held=5, in_flight=1, waiting_tokens=3_000)
    for speed, replicas in ((None, 1), (1_000, 3)):
        facts = [ReplicaFacts("0", 0, ready=True, load=LoadStatus(milliseconds=1, prompt_tokens_per_second=speed))]
        assert service.scaler.decide(service.order, facts, demand, 1000.0, WALL).replicas == replicas


def test_what_arrives_counts_with_the_answers_that_requests_of_late_had() -> None:
    service = Service(1, maxReplicas=5)
    load = LoadStatus(milliseconds=1, prompt_tokens_per_second=10_000, together_tokens_per_second=100)
    demand = Demand(
        "default/demo",
        in_flight=4,
        arrivals_per_second=2.0,
        tokens_per_second=200.0,
        arrivals=104,
        answered_tokens=10_000,
    )
    decision = service.scaler.decide(service.order, [ReplicaFacts("0", 0, ready=True, load=load)], demand, 1000.0, WALL)
    assert decision.replicas == 3, "2 answers of 100 tokens a second"


def test_scaling_is_no_reason_to_prepare_anew() -> None:
    one = order(maxReplicas=2)
    assert one.same_model(order(maxReplicas=3)) and one.same_model(replace(one, settings=None))


def ask(url: str) -> str:
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


@pytest.fixture
def scaled(here: Here) -> str:
    body = json.loads(manifest("demo"))
    body["spec"]["scaling"] = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 1, "scaleDownSeconds": 1}
    del body["spec"]["replicas"]
    return json.dumps(body)


def test_nobody_asks_and_none_runs_then_a_request_waits_and_is_answered(here: Here, scaled: str) -> None:
    here.run("up", "-f", here.write(scaled), "--detach", "--port", "0")
    here.ready("demo", 0)
    until(lambda: not [pid for pid in here.pids() if b"supervisor" in cmdline(pid)])
    assert "Idle: Nobody asks for it now; a request waits and starts it." in here.run("ps")
    assert "unchanged" in here.run("up", "-f", here.write(scaled), "--detach")
    assert here.service("demo")["object"]["spec"]["replicas"] == 0
    assert "default/demo: 1 -> 0 replicas: nobody asked for 1 s" in (here.state / "up.log").read_text()
    told = here.run("explain", "demo")
    assert "default/demo: 0 replicas (" in told and "1 -> 0  Idle: nobody asked for 1 s" in told
    status = here.service("demo")["object"]["status"]
    assert (status["scaling"]["desiredReplicas"], status["scaling"]["reason"]) == (0, "Idle")
    assert status["scaling"]["lastScaleTime"] and status["scaling"]["message"].startswith("nobody asked for")
    found = {condition["type"]: condition["reason"] for condition in status["conditions"]}
    assert (found["ScalingActive"], found["MetricsAvailable"]) == ("Managed", "MetricsFound")
    assert "[DONE]" in ask(here.snapshot()["url"])
    here.ready("demo", 0)
    assert "0 -> 1 replicas: 1 requests held and in flight" in (here.state / "up.log").read_text()
    said = here.run("scale", "demo", "--replicas", "2", code=None)
    assert "demand decides how many replicas of default/demo run" in said


def test_streams_that_wait_bring_replicas_which_go_when_fewer_do(here: Here) -> None:
    body = json.loads(manifest("demo", WORDS=100_000, DELAY=0.05))
    body["spec"]["scaling"] = {"maxReplicas": 2, "scaleDownSeconds": 1}
    here.run("up", "-f", here.write(json.dumps(body)), "--detach", "--port", "0")
    url = here.snapshot()["url"]

    async def load() -> None:
        """Streams that do not end, until there are two."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            asked = [asyncio.create_task(stream(session, url)) for _ in range(20)]
            await asyncio.to_thread(here.ready, "demo", 2)
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(load())
    here.ready("demo", 1)


async def stream(session: aiohttp.ClientSession, url: str) -> None:
    body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    async with session.post(f"{url}/chat/completions", json=body) as answer:
        async for _ in answer.content:
            pass


def cmdline(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""
