"""Adapters of a local service, from facts alone: what is told to replicas, what is not, and what becomes of it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from test_status import OUT, SERVICE, SETTINGS  # type: ignore[import-not-found]

from llmservice_api.adapters_told import AdapterTold
from llmservice_api.adapters_tried import NOTHING, Tried
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.adapters import ReadAdapter, read_adapters
from llmservice_cli.local.gpus import NO_GPU, GpuNeed
from llmservice_cli.local.order import Order
from llmservice_cli.local.prepare import Joined, resolved_in
from llmservice_cli.local.service import ADAPTED, ServiceControl
from llmservice_cli.local.status import View, adapters_of, observe
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_cli.places import Places
from llmservice_gateway.routing import Adapter as Shown
from llmservice_runtime.contract.adapters import Adapter, AdapterState
from llmservice_runtime.contract.settings import RuntimeSettings

SQL, LAW = Adapter("sql", "hf://acme/sql", "c1"), Adapter("law", "hf://acme/law", "c2")
ROOM = dataclasses.replace(SETTINGS, adapter_count=4, adapter_rank=16)


def service(*adapters: Adapter, **spec: object) -> LLMService:
    listed = [{"name": adapter.name, "uri": adapter.uri} for adapter in adapters]
    body = {"model": {"uri": "file://x.gguf"}, "adapters": listed, **spec}
    return LLMService.model_validate({"metadata": {"name": "demo"}, "spec": body})


def order(*adapters: Adapter, settings: RuntimeSettings = ROOM) -> Order:
    return Order(service(*adapters), "/x", settings=settings, adapters=adapters)


class Fake:
    """A substrate that starts everything at once."""

    def __init__(self) -> None:
        self.facts: dict[str, ReplicaFacts] = {}
        self.told: dict[str, tuple[Adapter, ...]] = {}
        self.tried: dict[str, dict[str, str]] = {}

    def replicas(self) -> list[ReplicaFacts]:
        return list(self.facts.values())

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
        name = f"{service}-{len(self.told)}"
        self.facts[name] = ReplicaFacts(name, slot, ready=True, url="http://x")
        self.told[name], self.tried[name] = tuple(adapters), dict(tried)
        return name

    def adapt(self, replica: str, adapters: Sequence[Adapter], tried: Tried = NOTHING) -> None:
        self.told[replica], self.tried[replica] = tuple(adapters), dict(tried)

    async def stop(self, replica: str, *, force: bool = False) -> None:
        self.facts.pop(replica, None)

    def says(
        self, *adapters: Adapter, state: AdapterState = AdapterState.LOADED, reason: str = "", message: str = "",
        replica: str = "",
    ) -> None:  # fmt: skip
        told = tuple(AdapterTold(one.name, one.uri, one.revision or "", state, reason, message) for one in adapters)
        for name, facts in self.facts.items():
            if replica in ("", name):
                self.facts[name] = dataclasses.replace(facts, adapters=told)


async def test_other_adapters_are_told_to_the_replicas_that_run() -> None:
    substrate = Fake()
    control = ServiceControl(order(SQL), substrate)
    assert control.apply(order(SQL)) == "created" and substrate.told == {"default/demo-0": (SQL,)}
    assert control.apply(order(SQL, LAW)) == ADAPTED and substrate.told == {"default/demo-0": (SQL, LAW)}
    assert control.apply(order(SQL, LAW)) == "unchanged"
    assert control.apply(order()) == ADAPTED and substrate.told == {"default/demo-0": ()}
    assert control.adaptable == order()
    assert control.apply(order(settings=dataclasses.replace(ROOM, adapter_count=8))) == "replacing"
    await asyncio.sleep(0)


async def test_one_that_is_new_is_tried_by_one_replica_before_the_others_have_it() -> None:
    substrate = Fake()
    control = ServiceControl(order(SQL).scaled(3), substrate)
    control.apply(order(SQL).scaled(3))
    substrate.says(SQL)
    control.settle()
    assert [*substrate.tried.values()] == [{}] * 3, "what they started with is for all"
    assert control.apply(order(SQL, LAW).scaled(3)) == ADAPTED
    assert [*substrate.told.values()] == [(SQL, LAW)] * 3
    (first,) = {tried["law"] for tried in substrate.tried.values()}
    substrate.says(SQL, LAW, state=AdapterState.LOADING, replica=first)
    control.settle()
    assert adapters_of(control._view())[1]["state"] == "Loading" and substrate.tried[first] == {"law": first}
    control.apply(order(SQL, LAW).scaled(4))
    assert len(substrate.tried) == 4 and {*map(str, substrate.tried.values())} == {str({"law": first})}
    substrate.says(SQL, LAW, replica=first)
    control.settle()
    assert [*substrate.tried.values()] == [{}] * 4


async def test_one_that_an_engine_died_of_is_told_to_no_other_replica() -> None:
    substrate = Fake()
    control = ServiceControl(order().scaled(3), substrate)
    control.apply(order().scaled(3))
    control.apply(order(LAW).scaled(3))
    (first,) = {tried["law"] for tried in substrate.tried.values()}
    substrate.facts[first] = dataclasses.replace(substrate.facts[first], ready=False, adapters=())
    control.settle()
    assert {*map(str, substrate.tried.values())} == {str({"law": first})}, "it starts again, and says what it died of"
    substrate.facts[first] = dataclasses.replace(substrate.facts[first], ready=True)
    substrate.says(LAW, state=AdapterState.FAILED, reason="Crashed", message="The engine died of it.", replica=first)
    control.settle()
    assert {*map(str, substrate.tried.values())} == {str({"law": first})}
    (entry,) = adapters_of(control._view())
    assert (entry["state"], entry["reason"], entry["loadedReplicas"]) == ("Failed", "Crashed", 0)
    assert "others are not told" in entry["message"]
    (found,) = (one for one in observe(control._view(), "", (), 0.0).conditions if one.type == "AdaptersReady")
    assert (found.status, found.reason) == ("False", "Crashed") and found.message.startswith("law: ")
    control.apply(order(dataclasses.replace(LAW, revision="c3")).scaled(3))  # another one
    assert {*map(str, substrate.tried.values())} == {str({"law": first})}
    await control._substrate.stop(first)
    control.settle()
    (second,) = {tried["law"] for name, tried in substrate.tried.items() if name != first}
    assert second != first, "another replica takes its place"


async def test_what_an_engine_died_of_is_not_tried_again_when_its_replica_goes() -> None:
    substrate = Fake()
    control = ServiceControl(order(SQL).scaled(2), substrate)
    control.apply(order(SQL).scaled(2))
    control.apply(order(SQL, LAW).scaled(2))
    (first,) = {tried["law"] for tried in substrate.tried.values()}
    substrate.says(LAW, state=AdapterState.FAILED, reason="Crashed", message="The engine died of it.", replica=first)
    control.settle()
    before = adapters_of(control._view())[1]
    assert before["reason"] == "Crashed"
    for replica in (first, *substrate.facts.keys() - {first}):
        await substrate.stop(replica)
        control.settle()
        entry = adapters_of(control._view())[1]
        assert (entry["state"], entry["message"]) == (before["state"], before["message"])
    control.apply(order(SQL, LAW).scaled(3))  # it wakes
    assert all(substrate.tried[name] == {"law": first} for name in substrate.facts)
    rolled = order(SQL, LAW, settings=dataclasses.replace(ROOM, adapter_count=8)).scaled(3)
    assert control.apply(rolled) == "replacing"
    assert all(substrate.tried[name] == {"law": first} for name in substrate.facts)
    control.settle()
    await asyncio.sleep(0)
    control.apply(dataclasses.replace(rolled, service=service(SQL), adapters=(SQL,)).scaled(3))
    control.apply(rolled)  # taken away, and added again
    assert {substrate.tried[name]["law"] for name in substrate.facts} <= set(substrate.facts) - {first}


async def test_the_gateway_is_told_who_has_which() -> None:
    substrate = Fake()
    control = ServiceControl(order(SQL, LAW), substrate)
    control.apply(order(SQL, LAW))
    assert control.backend().adapters == (Shown("law"), Shown("sql"))
    assert control.backend().replicas[0].adapters == frozenset()
    substrate.says(SQL)
    assert control.backend().replicas[0].adapters == {"sql"}
    substrate.says(SQL, LAW, state=AdapterState.FAILED, message="It is cut.")
    assert control.backend().adapters == (Shown("law", "It is cut."), Shown("sql", "It is cut."))


def test_status_has_an_entry_for_each() -> None:
    told = (AdapterTold("sql", SQL.uri, "c1", AdapterState.LOADED),)
    facts = ReplicaFacts("a", 0, ready=True, adapters=told)
    made = Order(
        service(SQL, LAW),
        settings=ROOM,
        adapters=(SQL,),
        not_loaded=(("law", "UnsupportedFormat", "It is for another model."),),
    )
    status = observe(View(made, (facts,)), "", (), 0.0)
    assert [entry.model_dump(by_alias=True, exclude_none=True) for entry in status.adapters] == [
        {"name": "sql", "state": "Loaded", "resolvedRevision": "c1", "loadedReplicas": 1},
        {
            "name": "law", "state": "Failed", "loadedReplicas": 0, "reason": "UnsupportedFormat",
            "message": "It is for another model.",
        },
    ]  # fmt: skip
    (found,) = (one for one in status.conditions if one.type == "AdaptersReady")
    assert (found.status, found.reason) == ("False", "UnsupportedFormat") and "law: It is for" in found.message
    assert adapters_of(View(Order(service(SQL), failure=OUT)))[0]["state"] == "Pending"
    assert not [one for one in observe(View(Order(SERVICE)), "", (), 0.0).conditions if one.type == "AdaptersReady"]


def test_an_order_is_read_back_and_knows_what_differs() -> None:
    made = dataclasses.replace(order(SQL), not_loaded=(("law", "DoesNotFit", "No room."),))
    assert Order.from_body(made.to_body()) == made
    assert made.digest == order(LAW).digest, "other adapters make no other process"
    assert not made.same_model(order(LAW)) and made.same_but_adapters(order(LAW))
    other = Order(service(SQL, contextTokens=512), "/x")
    assert not made.same_but_adapters(other)


def test_what_was_resolved_once_stays_so() -> None:
    running = order(SQL)
    (spec,) = running.service.spec.adapters
    assert resolved_in(running) == {spec: SQL} and resolved_in(None) == {}
    joined = Joined.of(
        {
            "pid": 1,
            "services": [{"object": running.service.to_manifest(), "replicas": [], "adaptable": running.to_body()}],
        }
    )
    assert joined.orders == {"default/demo": running}


def test_one_that_can_t_be_read_is_told_and_no_other_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("nothing")
    places = Places(tmp_path / "cache", tmp_path / "state")
    found = read_adapters(service(Adapter("gone", "file://gone"), Adapter("empty", "file://empty")), tmp_path, places)
    gone, empty = found
    assert gone.adapter.uri == f"file://{tmp_path}/gone" and gone.failure == "ModelNotFound"
    assert empty == ReadAdapter(Adapter("empty", f"file://{tmp_path}/empty"), None, empty.failure, empty.message)
    assert empty.failure == "UnsupportedFormat" and "no adapter" in empty.message
