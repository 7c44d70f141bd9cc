"""Which replicas end when a service is scaled, over a substrate that starts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_world import Here, Stream, manifest, until  # type: ignore[import-not-found]

from llmservice_api.adapters_tried import NOTHING, Tried
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.local.gpus import NO_GPU, GpuNeed
from llmservice_cli.local.order import Order
from llmservice_cli.local.service import ServiceControl
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings

SERVICE = LLMService.model_validate({"metadata": {"name": "demo"}, "spec": {"model": {"uri": "file://x.gguf"}}})
ORDER = Order(SERVICE, settings=RuntimeSettings(EngineType.LLAMA_CPP, "/x.gguf", "default/demo"))


class Room:
    """A substrate whose replicas are ready at once and end when they are told to."""

    def __init__(self) -> None:
        self.all: dict[str, ReplicaFacts] = {}

    def replicas(self) -> Sequence[ReplicaFacts]:
        return [*self.all.values()]

    def start(
        self,
        service: str,
        slot: int,
        settings: RuntimeSettings,
        memory_bytes: int = 0,
        gpus: GpuNeed = NO_GPU,
        adapters: Sequence[Adapter] = (),
        tried: Tried = NOTHING,
    ) -> str:
        name = f"{service}-{len(self.all) + 1}"
        self.all[name] = ReplicaFacts(name, slot, ready=True)
        return name

    def adapt(self, replica: str, adapters: Sequence[Adapter], tried: Tried = NOTHING) -> None:
        """None of these tests has any."""

    async def stop(self, replica: str, *, force: bool = False) -> None:
        self.all[replica] = replace(self.all[replica], ready=False)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=5), st.integers(0, 7))
async def test_the_least_busy_end_and_free_slots_are_used_again(
    states: list[tuple[bool, int, int]], wanted: int
) -> None:
    room = Room()
    in_flight: dict[str, int] = {}
    control = ServiceControl(ORDER.scaled(0), room, lambda name: in_flight.get(name, 0))
    control.apply(ORDER.scaled(len(states)))
    for facts, (ready, reported, seen) in zip(room.replicas(), states, strict=True):
        room.all[facts.name] = replace(facts, ready=ready, running=reported)
        in_flight[facts.name] = seen
    before = {facts.name: (facts.ready, max(facts.running, in_flight[facts.name])) for facts in room.replicas()}
    assert control.scale(wanted) == ("unchanged" if wanted == len(states) else "scaled")
    left = [facts.name for facts in control.replicas]
    ended = [name for name in before if name not in left]
    assert len(left) == len({facts.slot for facts in control.replicas}) == wanted
    assert all(before[gone] <= before[kept] for gone in ended for kept in left if kept in before)


async def test_a_service_that_is_being_stopped_is_not_scaled() -> None:
    room = Room()
    control = ServiceControl(ORDER, room)
    control.apply(ORDER)
    ends = asyncio.ensure_future(control.stop())
    await asyncio.sleep(0)
    with pytest.raises(UserError, match="default/demo is being stopped"):
        control.scale(3)
    await ends
    assert len(room.all) == 1


async def test_what_is_asked_for_while_a_service_is_prepared_is_kept_for_then() -> None:
    room = Room()
    control = ServiceControl(Order(SERVICE), room)
    control.apply(Order(SERVICE))
    assert control.scale(3) == "scaled"
    control.apply(ORDER)
    assert len(control.replicas) == 3
    control.apply(ORDER)  # a later `up` has its own number
    assert len(control.replicas) == 1


async def test_scaling_beside_a_failed_edit_keeps_its_failure() -> None:
    room = Room()
    control = ServiceControl(ORDER, room)
    control.apply(ORDER)
    control.apply(Order(SERVICE, failure=FailureRecord(FailureClass.MODEL_NOT_FOUND, "gone", "look", "Preparing")))
    assert control.scale(2) == "scaled"
    assert len(control.replicas) == 2
    assert control.order.failure is not None and control.order.replicas == 2


async def test_a_freed_slot_is_taken_again() -> None:
    room = Room()
    control = ServiceControl(ORDER, room, lambda name: name == "default/demo-2")
    control.apply(ORDER.scaled(2))
    control.scale(1)
    assert [facts.slot for facts in control.replicas] == [1]
    control.scale(2)
    assert sorted(facts.slot for facts in control.replicas) == [0, 1]


def test_scaling_down_ends_idle_replicas_and_cuts_no_stream(here: Here) -> None:
    enough = here.folder / "enough"
    here.run("up", "-f", here.write(manifest("demo", replicas=3, drain=60, ENOUGH=enough)), "--port", "0", "--detach")
    here.ready("demo", 3)
    one = Stream(here.snapshot()["url"], "demo")
    here.run("scale", "demo", "--replicas", "1")
    until(lambda: len(here.pids()) == 3)  # the instance, a supervisor and its engine
    assert here.ready("demo")["replicas"][0]["ready"] and "[DONE]" not in one.text
    here.run("scale", "demo", "--replicas", "3")
    here.ready("demo", 3)
    streams = [one, *(Stream(here.snapshot()["url"], "demo") for _ in range(20))]
    here.run("scale", "demo", "--replicas", "1")  # whoever ends answers what it has
    enough.touch()
    assert all("word2" in stream.whole(60) and "[DONE]" in stream.text for stream in streams)
    here.ready("demo", 1)
