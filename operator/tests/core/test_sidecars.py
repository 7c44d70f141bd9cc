"""Containers that a mesh puts into the Jobs' pods: they neither end, nor end well, nor let ours start."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from core_world import PREPARED, World  # type: ignore[import-not-found]

from llmservice_runtime.contract.failure import FailureClass, FailureRecord

Json = dict[str, Any]
CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}
PROXY = "istio-proxy"


def running(since: datetime) -> Json:
    return {"running": {"startedAt": since.strftime("%Y-%m-%dT%H:%M:%SZ")}}


def ended(now: datetime, code: int = 0, message: str = "") -> Json:
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"terminated": {"exitCode": code, "reason": "Error", "message": message, "finishedAt": at}}


def newest_job(world: World) -> Json:
    found: Json = world.of("Job")[-1]
    return found


def job_pod(world: World, own: Json, beside: Json | None = None, init: tuple[Json, Json] | None = None) -> Json:
    """A pod of the newest Job: the state of our container, of a sidecar, and (spec, status) of an init container."""
    job = newest_job(world)
    name, container = job["metadata"]["name"], job["spec"]["template"]["spec"]["containers"][0]["name"]
    statuses = [{"name": PROXY, "state": beside}] if beside else []
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "apps",
            "labels": {"llmservice.dev/component": "prepare", "batch.kubernetes.io/job-name": name},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "n1", "restartPolicy": "Never", "initContainers": [init[0]] if init else []},
        "status": {
            "containerStatuses": [*statuses, {"name": container, "state": own}],
            "initContainerStatuses": [init[1]] if init else [],
        },
    }
    world.objects["Pod", name] = pod
    return pod


def succeed(world: World, beside: Json) -> Json:
    return job_pod(world, ended(world.now, message=PREPARED.to_json()), beside)


def jobs(world: World) -> list[str]:
    return [job["metadata"]["name"] for job in world.of("Job")]


def test_what_our_container_did_counts_while_a_sidecar_goes_on(world: World) -> None:
    world.edit(cache=CLAIM).pass_()
    succeed(world, running(world.now))
    world.pass_()
    assert world.of("Deployment") == [], "the cache is not filled yet"
    succeed(world, running(world.now))
    world.pass_()
    assert world.condition("Cached")["status"] == "True"
    world.rolled_out().pass_()
    assert world.condition("Ready")["status"] == "True"
    assert len(jobs(world)) == 2, "a proxy that is told so ends by itself, and needs a moment"
    assert world.look().requeue_after == 30
    world.wait(30).pass_()
    assert jobs(world) == []
    assert world.pass_() == []
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Cached")["status"] == "True"


def test_an_edit_after_the_job_was_ended_makes_no_second_inspection_and_fills_once(world: World) -> None:
    world.edit(cache=CLAIM).pass_()
    for _ in range(2):
        succeed(world, running(world.now))
        world.pass_()
    world.wait(30).pass_()
    assert jobs(world) == []
    world.edit(contextTokens=1024).pass_()
    assert [name for name in jobs(world) if "-fetch-" not in name] == []


def test_a_job_ends_by_itself_where_everything_in_it_does(world: World) -> None:
    world.served()
    world.wait(3600).pass_()
    assert len(jobs(world)) == 1


REFUSED = {"count": 8, "resourceName": "nvidia.com/gpu"}
"""The installation has no image for it: no plan is made that would keep what was read."""


def kept(world: World) -> list[str]:
    """Names of what is kept beside plans."""
    labelled = [obj["metadata"] for obj in world.of("ControllerRevision")]
    return [metadata["name"] for metadata in labelled if "llmservice.dev/component" in metadata["labels"]]


def read_and_refused(world: World) -> str:
    """A service whose plan is refused, and whose Job a sidecar kept alive; the name of that Job."""
    world.edit(accelerator=REFUSED).pass_()
    (name,) = jobs(world)
    succeed(world, running(world.now))
    world.pass_()
    assert jobs(world) == [name] and world.look().requeue_after == 30, "a proxy may end by itself"
    world.wait(30).pass_()
    del world.objects["Pod", name]  # with its Job
    return name


def test_a_job_ends_although_its_plan_is_refused_and_nothing_is_read_again(world: World) -> None:
    name = read_and_refused(world)
    assert jobs(world) == [] and kept(world) == [name]
    assert world.condition("ModelResolved")["status"] == "True"
    assert world.condition("Planned")["status"] == "False"
    assert world.pass_() == [], "also by an operator that was started anew: it remembers nothing"
    assert world.look().requeue_after is None
    assert all(len(obj["data"]["prepared"]) <= 4096 for obj in world.of("ControllerRevision"))


def test_what_was_read_is_planned_with_once_a_plan_can_be_made_and_kept_by_it_alone(world: World) -> None:
    read_and_refused(world)
    world.edit(accelerator={"count": 0}).pass_()
    assert jobs(world) == [] and kept(world) == []
    world.rolled_out().pass_()
    assert world.condition("Ready")["status"] == "True"
    assert world.pass_() == []


def test_what_was_read_of_another_model_goes(world: World) -> None:
    name = read_and_refused(world)
    world.edit(model={"uri": "hf://c/d"}).pass_()
    assert kept(world) == [] and len(jobs(world)) == 1 and jobs(world) != [name]


def test_a_reading_that_cannot_be_read_is_made_anew(world: World) -> None:
    name = read_and_refused(world)
    world.get("ControllerRevision", name)["data"]["prepared"] = "of another release"
    world.pass_()
    assert kept(world) == [] and jobs(world) == [name]


def test_a_model_that_is_read_anew_and_is_the_same_lets_its_job_end(world: World) -> None:
    world.served()
    pod = world.replica("restarted")
    record = FailureRecord(FailureClass.MODEL_CHANGED, "Other content.", "Mend it.", "Preparing").to_json()
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}
    pod["status"]["initContainerStatuses"] = [
        {"name": "fetch", "state": waits, "lastState": ended(world.now, 1, record)}
    ]
    world.pass_()
    name = jobs(world)[-1]
    succeed(world, running(world.now))
    world.wait(30).pass_()
    del world.objects["Pod", name]
    assert jobs(world) == [] and kept(world) == [name]
    assert "and is the same" in world.condition("ModelResolved")["message"]
    assert world.pass_() == []
    world.wait(270).pass_()
    assert kept(world) == [name]
    world.wait(30).pass_()
    assert kept(world) == [] and jobs(world) == [name], "the source can't make up its mind: it is asked once more"


def test_a_sidecar_that_crashes_is_no_failure_of_the_job(world: World) -> None:
    world.pass_()
    rules = newest_job(world)["spec"]["podFailurePolicy"]["rules"]
    codes = next(rule["onExitCodes"] for rule in rules if "onExitCodes" in rule)
    assert codes["containerName"] == newest_job(world)["spec"]["template"]["spec"]["containers"][0]["name"]
    job_pod(world, running(world.now), ended(world.now, 1))
    world.pass_()
    assert world.condition("Progressing")["reason"] == "Resolving", "ours still reads"
    succeed(world, ended(world.now, 1))
    failed = {"type": "Failed", "status": "True", "message": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    newest_job(world)["status"] = {"conditions": [failed]}
    world.pass_()
    assert world.condition("ModelResolved")["status"] == "True"


def test_our_record_is_told_before_the_end_of_others(world: World) -> None:
    world.pass_()
    record = FailureRecord(FailureClass.MODEL_GATED, "It is gated.", "Ask for access.", "Preparing").to_json()
    job_pod(world, ended(world.now, 1, record), ended(world.now, 2))
    world.pass_()
    assert world.condition("ModelResolved")["reason"] == "ModelGated"


@pytest.mark.parametrize(("code", "wait"), [(75, 30), (1, 300)])
def test_a_failure_that_a_sidecar_keeps_from_being_counted_is_tried_again(world: World, code: int, wait: float) -> None:
    world.pass_()
    record = FailureRecord(FailureClass.HUB_UNREACHABLE, "No answer.", "Wait.", "Preparing").to_json()
    job_pod(world, ended(world.now, code, record), running(world.now))
    world.pass_()
    assert world.condition("ModelResolved")["reason"] == "HubUnreachable"
    uid = newest_job(world)["metadata"]["uid"]
    assert world.look().requeue_after == wait or wait > 30
    assert not world.look().delete
    world.wait(wait)
    assert [gone.uid for gone in world.look().delete] == [uid]


@pytest.mark.parametrize(
    ("spec", "status", "held"),
    [
        ({"name": "istio-init"}, {}, "has not ended"),
        ({"name": PROXY, "restartPolicy": "Always"}, {"started": False}, "has not become ready"),
        ({"name": PROXY, "restartPolicy": "Always"}, {"started": True}, ""),
    ],
)
def test_an_init_container_that_keeps_ours_from_starting_is_named(
    world: World, spec: Json, status: Json, held: str
) -> None:
    world.pass_()
    waiting = {"waiting": {"reason": "PodInitializing"}}
    job_pod(world, waiting, init=(spec, {"name": spec["name"], "state": running(world.now), **status}))
    world.pass_()
    assert world.condition("ModelResolved")["reason"] == "Resolving"
    world.wait(200).pass_()
    said = world.condition("ModelResolved")
    assert (said["reason"] == "HeldUp") is bool(held)
    assert held in said["message"]
    if held:
        assert f"-c {spec['name']}" in said["message"]


def test_a_native_sidecar_that_is_ended_with_the_pod_is_no_failure(world: World) -> None:
    world.pass_()
    native = {"name": PROXY, "restartPolicy": "Always"}
    job_pod(
        world,
        ended(world.now, message=PREPARED.to_json()),
        init=(native, {"name": PROXY, "state": ended(world.now, 143)}),
    )
    world.pass_()
    assert world.condition("ModelResolved")["status"] == "True"


def test_a_replica_that_an_init_container_holds_up_says_so(world: World) -> None:
    world.served()
    pod = world.of("Pod")[-1]
    pod["spec"]["initContainers"] = [{"name": "fetch"}, {"name": "linkerd-init"}]
    since = datetime(2025, 12, 31, tzinfo=UTC)
    pod["status"] = {
        "containerStatuses": [{"name": "runtime", "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}],
        "initContainerStatuses": [{"name": "fetch", "state": running(since)}],
    }
    world.get("Deployment")["status"]["readyReplicas"] = 0
    world.pass_()
    assert world.condition("Ready")["reason"] != "HeldUp", "a download may take long"
    pod["status"]["initContainerStatuses"][1:] = [{"name": "linkerd-init", "state": running(since)}]
    pod["status"]["initContainerStatuses"][0]["state"] = ended(world.now)
    world.pass_()
    assert world.condition("Ready")["reason"] == "HeldUp"
    assert "linkerd-init" in world.condition("Ready")["message"]


def test_injection_that_is_switched_off_is_another_job(world: World) -> None:
    """What HeldUp says to do: the Job's pod carries the label, and the one that is held up goes."""
    world.pass_()
    waiting = {"waiting": {"reason": "PodInitializing"}}
    init = ({"name": "istio-init"}, {"name": "istio-init", "state": running(world.now)})
    job_pod(world, waiting, init=init)
    world.wait(200).pass_()
    assert "spec.podTemplate.metadata" in world.condition("ModelResolved")["message"]
    before = jobs(world)
    world.edit(podTemplate={"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}).pass_()
    assert jobs(world) != before and len(jobs(world)) == 1
    labels = newest_job(world)["spec"]["template"]["metadata"]["labels"]
    assert labels["sidecar.istio.io/inject"] == "false"
    world.objects = {key: obj for key, obj in world.objects.items() if key[0] != "Pod"}
    world.prepared().pass_()
    world.rolled_out().pass_()
    assert world.condition("Ready")["status"] == "True"


@pytest.mark.parametrize("native", [False, True])
def test_a_sidecar_that_is_not_ready_beside_a_ready_engine_is_named(world: World, native: bool) -> None:
    """The whole replica gets no requests then, and the engine's container has nothing to say about it."""
    world.pass_()
    world.prepared().pass_()
    pod = world.replica("demo-1", ready=True)
    pod["spec"]["initContainers"] = [{"name": PROXY, "restartPolicy": "Always"}] if native else []
    beside = {"name": PROXY, "ready": False, "started": True, "state": running(world.now)}
    engine = {**pod["status"]["containerStatuses"][0], "state": running(world.now)}
    pod["status"] = {
        "containerStatuses": [engine] if native else [engine, beside],
        "initContainerStatuses": [beside] if native else [],
    }
    world.wait(110).pass_()
    assert world.condition("Progressing")["reason"] == "Starting"
    world.wait(10).pass_()
    for kind in ("Ready", "Progressing"):
        said = world.condition(kind)
        assert (said["status"], said["reason"]) == ("False", "HeldUp")
        assert f"container {PROXY} of the replica is not ready" in said["message"]
        assert f"logs -n  demo-1 -c {PROXY}" in said["message"]
    changed = {"type": "ContainersReady", "status": "False"}
    pod["status"]["conditions"] = [{**changed, "lastTransitionTime": world.now.strftime("%Y-%m-%dT%H:%M:%SZ")}]
    world.pass_()
    assert world.condition("Progressing")["reason"] == "Starting", "it was ready until now"
    engine["ready"] = False
    world.wait(500).pass_()
    assert world.condition("Progressing")["reason"] == "Starting", "the engine itself loads"
