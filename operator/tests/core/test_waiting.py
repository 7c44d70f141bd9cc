"""Node autoscalers speak through Events: a node on its way is waited for, and its refusal is passed on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from core_world import World  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_operator.facts.waiting import NODE_SECONDS, coming_node, no_node_comes, unclear

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


def event(reason: str, message: str, ago: float = 1, component: str = "cluster-autoscaler", uid: str = "p-1") -> Json:
    at = (NOW - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": "e", "creationTimestamp": at},
        "involvedObject": {"kind": "Pod", "uid": uid},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "source": {"component": component},
    }


UP = event("TriggeredScaleUp", "pod triggered scale-up: [{gpu 1->2 (max: 3)}]", 60)
FULL = event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", 30)
NOMINATED = event("Nominated", "Pod should schedule on: nodeclaim/gpu-x", component="karpenter")
KARPENTER_REFUSES = event("FailedScheduling", "no instance type met the requirements", component="karpenter")
SCHEDULER = event("FailedScheduling", "0/2 nodes are available", component="default-scheduler")


@pytest.mark.parametrize(
    ("events", "coming", "refused"),
    [
        ([], "", ""),
        ([UP], "gpu 1->2", ""),
        ([UP, SCHEDULER], "gpu 1->2", ""),
        ([UP, FULL], "", "max node group size"),
        ([FULL, event("TriggeredScaleUp", "again")], "again", ""),
        ([NOMINATED], "nodeclaim/gpu-x", ""),
        ([KARPENTER_REFUSES], "", "no instance type"),
        ([event("TriggeredScaleUp", "long ago", NODE_SECONDS + 1)], "", ""),
    ],
)
def test_the_autoscalers_last_word_counts(events: list[Json], coming: str, refused: str) -> None:
    assert (coming in coming_node(events, NOW)) is bool(coming) or not coming
    assert bool(coming_node(events, NOW)) is bool(coming)
    assert bool(no_node_comes(events)) is bool(refused)
    assert refused in no_node_comes(events)


@given(st.permutations([UP, FULL, NOMINATED, KARPENTER_REFUSES, SCHEDULER]))
def test_a_node_never_both_comes_and_does_not(events: list[Json]) -> None:
    assert not (coming_node(events, NOW) and no_node_comes(events))


def surge_without_room(world: World) -> Json:
    """An edit whose surge replica finds no node."""
    world.served()
    old = world.of("Pod")[-1]
    world.edit(contextTokens=1024).pass_()
    world.replica("demo-new")
    surge: Json = world.get("Pod", "demo-new")
    surge["metadata"]["uid"] = "p-1"
    world.no_node(surge)
    assert old["metadata"]["labels"] != surge["metadata"]["labels"]
    return surge


def said(world: World, reason: str, message: str) -> None:
    told = event(reason, message)
    told["lastTimestamp"] = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.events = (*world.events, told)


def test_a_rollout_waits_for_a_node_that_is_being_added() -> None:
    world = World()
    surge_without_room(world)
    said(world, "TriggeredScaleUp", "pod triggered scale-up: [{cpu 2->3}]")
    world.wait(120).pass_()
    assert world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert world.condition("Progressing")["status"] == "True"
    assert world.condition("Scheduled")["reason"] == "AddingNode"
    assert "cpu 2->3" in world.condition("Scheduled")["message"]
    assert (world.condition("Ready")["status"], world.condition("Ready")["reason"]) == ("True", "AddingNode")


def test_it_goes_on_in_place_once_no_node_comes() -> None:
    world = World()
    surge_without_room(world)
    said(world, "TriggeredScaleUp", "pod triggered scale-up: [{cpu 2->3}]")
    world.wait(120).pass_()
    said(world, "NotTriggerScaleUp", "1 max node group size reached")
    world.wait(1).pass_()
    assert world.get("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "max node group size" in world.condition("Scheduled")["message"]


def test_what_is_said_of_a_claim_is_told_by_who_waits_for_it() -> None:
    """The scheduler only says that it has no volume yet."""
    size = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "10Gi", "storageClassName": "fast"}}
    world = World().edit(cache=size)
    world.pass_()
    world.prepared().pass_()
    (claim,) = world.of("PersistentVolumeClaim")
    claim["metadata"]["uid"] = "c-1"
    claim["status"] = {"phase": "Pending"}
    job = next(job for job in world.of("Job") if "-fetch-" in job["metadata"]["name"])
    template = job["spec"]["template"]
    labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
    pod: Json = {"kind": "Pod", "metadata": {"name": "f", "uid": "p-1", "labels": labels}, "spec": template["spec"]}
    pod["status"] = {"phase": "Pending"}
    world.objects["Pod", "f"] = pod
    world.no_node(pod, "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims")
    pod["spec"] = template["spec"]
    children = [*world.of("PersistentVolumeClaim"), *world.of("Pod")]
    assert "c-1" in unclear(children), "its Events are read"
    told = event("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found', uid="c-1")
    world.events = (told,)
    world.pass_()
    ready = world.condition("Ready")
    assert ready["reason"] == "VolumeFailed"
    assert "There is no StorageClass fast." in ready["message"]
    wait = world.look().requeue_after
    assert wait is not None and wait <= 30, "no watch tells what Events say"


def test_events_are_read_only_of_what_waits() -> None:
    world = World()
    world.served()
    assert not unclear(world.of("Pod"))
    surge = surge_without_room(world)
    assert unclear([*world.of("Pod"), *world.of("Job")]) == (surge["metadata"]["uid"],)
