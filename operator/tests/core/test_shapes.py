"""One object of an unforeseen shape: it is refused by name before anybody reads it, or it does no harm."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from core_world import PREPARED, Json, World  # type: ignore[import-not-found]
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_operator.facts.frozen import KEPT
from llmservice_operator.facts.shapes import readable
from llmservice_operator.facts.values import Observed
from llmservice_operator.facts.waiting import unclear
from llmservice_operator.reconcile import reconcile
from llmservice_runtime.contract.failure import FailureClass, FailureRecord

JUNK: tuple[Any, ...] = (None, "", 0, -1, 1.5, True, "odd", [], {}, [None], {"a": None}, [[]], "9" * 50, 2**63, 1e400)
GONE = object()
PROXY_ON = {"name": "proxy", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
KINDS = ("LLMService", "ControllerRevision", "Pod", "Job", "Deployment", "Event")


@cache
def worlds() -> tuple[World, ...]:
    """A service at the beginning, one that failed to be read, one that serves, one whose new replica finds no node, one
    whose plan is refused while a sidecar goes on."""
    first, failed, serves, waits, refused = World(), World(), World(), World(), World()
    refused.edit(accelerator={"count": 8, "resourceName": "nvidia.com/gpu"}).pass_()
    refused.prepared()
    refused.of("Job")[-1]["status"] = {}
    refused.of("Pod")[-1]["status"]["containerStatuses"].append(PROXY_ON)
    refused.of("Pod")[-1]["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = (
        "2025-12-31T00:00:00Z"
    )
    refused.pass_()
    assert len(refused.of("ControllerRevision")) == 1 and not refused.of("Job")
    first.pass_()
    failed.pass_()
    failed.prepare_failed(FailureClass.MODEL_GATED, "It is gated.", "Ask for it.").pass_()
    serves.served()
    waits.served().edit(contextTokens=1024).pass_()
    pod = waits.replica("demo-new")
    waits.no_node(pod)
    pod["metadata"]["uid"] = "p-1"
    times = {"lastTimestamp": waits.now.strftime("%Y-%m-%dT%H:%M:%SZ"), "eventTime": None, "series": None}
    waits.events = (
        {
            "metadata": {"name": "e"},
            "involvedObject": {"uid": "p-1"},
            "reason": "TriggeredScaleUp",
            "message": "pod triggered scale-up",
            "source": {"component": "cluster-autoscaler"},
            **times,
        },
    )
    waits.pass_()
    return first, failed, serves, waits, refused


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is, within plain data."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*path, key)
        yield from places(child, (*path, key))


def spoil(obj: Json, data: st.DataObject) -> None:
    """Put something else somewhere. Name, kind and namespace stay: by these it was found."""
    named = {("kind",), ("apiVersion",), ("metadata",), *(("metadata", name) for name in ("name", "namespace", "uid"))}
    *way, last = data.draw(st.sampled_from([path for path in places(obj) if path not in named]))
    inner: Any = obj
    for key in way:
        inner = inner[key]
    junk = data.draw(st.sampled_from([*JUNK, GONE]))
    if junk is GONE:
        del inner[last]
    else:
        inner[last] = junk


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200)
@given(data=st.data())
def test_what_is_readable_does_no_harm(kind: str, data: st.DataObject) -> None:
    world = data.draw(st.sampled_from(worlds()))
    objects: list[Json] = copy.deepcopy([world.service, *world.objects.values(), *world.events])
    for event in objects[len(objects) - len(world.events) :]:
        event["kind"] = "Event"
    mine = [obj for obj in objects if obj["kind"] == kind]
    if not mine:
        return
    spoil(data.draw(st.sampled_from(mine)), data)
    read = []
    for obj in objects:
        try:
            read.append(readable(obj["kind"], obj))
        except ValueError as error:
            assert ": " in str(error)
    service = next((obj for obj in read if obj["kind"] == "LLMService"), None)
    events = tuple(obj for obj in read if obj["kind"] == "Event")
    children = tuple(obj for obj in read if obj["kind"] not in ("Event", "LLMService"))
    if service is not None:
        unclear(children)
        reconcile(Observed(service, children, world.nodes, (), events), world.config, world.now)


def test_everything_that_is_as_it_should_be_is_readable() -> None:
    for world in worlds():
        for obj in (world.service, *world.objects.values()):
            assert readable(obj["kind"], obj) is obj
        assert all(readable("Event", event) is event for event in world.events)


def test_a_status_that_cannot_be_read_is_written_anew() -> None:
    world = World().served()
    before = copy.deepcopy(world.service["status"])
    world.service = readable("LLMService", {**world.service, "status": {"conditions": ["of", "another", "time"]}})
    assert world.pass_() == ["status"]
    assert world.service["status"] == before


@given(st.data())
def test_a_report_that_is_none_is_told_in_status(data: st.DataObject) -> None:
    world, report = World(), json.loads(PREPARED.to_json())
    world.pass_()
    spoil(report, data)
    _reported(world, json.dumps(report))
    world.pass_()
    assert world.condition("ModelResolved")["reason"] in ("Resolved", "Crashed", "Resolving")


@pytest.mark.parametrize("text", ["[" * 4096, "{}", "null", "1e999", '{"packed": 3}', '{"packed": "ä"}', "\ud800"])
def test_a_termination_message_of_any_kind_ends_no_pass(text: str) -> None:
    world = World()
    world.pass_()
    _reported(world, text)
    world.pass_()
    assert world.condition("Ready")["reason"] == "Crashed"
    with pytest.raises(ValueError):
        FailureRecord.from_json(text)


def _reported(world: World, text: str) -> None:
    world.prepared()
    pod = world.of("Pod")[-1]
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = text


@pytest.mark.parametrize("field", KEPT)
def test_every_field_that_a_revision_keeps_is_looked_at_before_it_is_read(field: str) -> None:
    (revision,) = worlds()[2].of("ControllerRevision")
    odd = copy.deepcopy(revision)
    assert readable("ControllerRevision", odd) is odd
    odd["data"][field] = 1.5
    with pytest.raises(ValueError, match=field):
        readable("ControllerRevision", odd)
