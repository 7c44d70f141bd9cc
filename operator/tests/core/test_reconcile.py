"""From a manifest to replicas, pass by pass; a pass over what is as it should be writes nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
from core_world import (  # type: ignore[import-not-found]
    CONFIG,
    CPU_IMAGE,
    FACTS,
    GPU_CONFIG,
    L4_NODES,
    PREPARED,
    World,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_api.labels import SETTINGS
from llmservice_operator.children.fetch_job import MOST_SERVICES
from llmservice_operator.facts.config import RuntimeImage
from llmservice_operator.facts.values import Refused
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.settings import RuntimeSettings

CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}


def kinds(written: list[str]) -> list[str]:
    return [name.split()[0] for name in written]


def test_a_service_comes_up_step_by_step(world: World) -> None:
    first = ["ServiceAccount", "Service", "NetworkPolicy", "PodDisruptionBudget", "Job", "status"]
    assert kinds(world.pass_()) == first
    assert world.pass_() == []
    assert kinds(world.prepared().pass_()) == ["ControllerRevision", "Deployment", "status"]
    assert world.pass_() == []
    assert kinds(world.rolled_out().pass_()) == ["status"]
    assert world.pass_() == []
    status = world.service["status"]
    assert world.condition("Ready")["status"] == "True"
    assert status["url"] == "http://demo.apps.svc.cluster.local/v1"
    assert status["plan"]["engine"] == "LlamaCpp"
    assert status["model"]["resolvedRevision"] == "c0ffee"
    assert (
        status["model"]["format"] == "GGUF" and status["model"]["parameters"] > 0 and status["model"]["fileBytes"] > 0
    )
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert all(entry["observedGeneration"] == 1 for entry in status["conditions"])
    assert {note.type for note in world.notes} == {"Normal"}


def test_the_replica_gets_the_plan_as_settings(world: World) -> None:
    world.served()
    template = world.get("Deployment")["spec"]["template"]
    runtime = RuntimeSettings.from_json(template["metadata"]["annotations"][SETTINGS])
    assert (runtime.engine, runtime.model_path, runtime.host) == (EngineType.LLAMA_CPP, PREPARED.path, "::")
    (container,) = template["spec"]["containers"]
    assert container["startupProbe"]["failureThreshold"] * 5 >= runtime.load_seconds
    deployment = world.get("Deployment")["spec"]
    assert deployment["progressDeadlineSeconds"] > runtime.load_seconds
    assert template["spec"]["terminationGracePeriodSeconds"] > runtime.drain_seconds + 5
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True


def test_an_upgrade_of_the_operator_changes_no_template(world: World) -> None:
    world.served()
    before = copy.deepcopy(world.get("Deployment")["spec"]["template"])
    new = RuntimeImage("runtime:next", (EngineType.LLAMA_CPP, EngineType.VLLM))
    world.config = dataclasses.replace(
        CONFIG, images=(new,), image_pull_policy="Always", environment=(("HTTPS_PROXY", "http://proxy"),)
    )
    world.nodes = L4_NODES
    assert world.pass_() == ["status"]
    assert "runtime:next" in world.service["status"]["plan"]["notes"][-1]
    assert world.pass_() == []
    assert world.get("Deployment")["spec"]["template"] == before


def test_scaling_changes_replicas_alone(world: World) -> None:
    world.served()
    before = copy.deepcopy(world.get("Deployment")["spec"])
    assert kinds(world.edit(replicas=3).pass_()) == ["Deployment", "status"]
    assert world.get("Deployment")["spec"] == {**before, "replicas": 3}


def test_an_edit_and_its_undoing_end_in_the_first_template(world: World) -> None:
    world.served()
    before = copy.deepcopy(world.get("Deployment")["spec"]["template"])
    world.edit(contextTokens=1024).pass_()
    assert world.get("Deployment")["spec"]["template"] != before
    world.edit(contextTokens=None).pass_()
    assert world.get("Deployment")["spec"]["template"] == before
    assert len(world.of("Job")) == 1


def test_another_model_leaves_the_old_one_serving_until_its_facts_are_known(world: World) -> None:
    world.served()
    before = copy.deepcopy(world.get("Deployment")["spec"])
    written = world.edit(model={"uri": "hf://a/other"}).pass_()
    assert sorted(kinds(written)) == ["-Job", "Job", "status"]
    assert world.get("Deployment")["spec"] == before
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("ModelResolved")["status"] == "Unknown"
    assert "Deployment" in kinds(world.prepared(dataclasses.replace(PREPARED, revision="beef")).pass_())


@pytest.mark.parametrize(
    ("bad", "condition", "reason"),
    [
        ({"contextTokens": 1_000_000}, "Planned", "BadArgument"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, "Planned", "DoesNotFit"),
        ({"engine": {"type": "Quantum"}}, "SpecValid", "Invalid"),
        ({"model": {"uri": "file://relative"}}, "SpecValid", "Invalid"),
    ],
)
def test_a_bad_edit_leaves_the_running_version_serving(
    world: World, bad: dict[str, object], condition: str, reason: str
) -> None:
    world.served()
    before = copy.deepcopy(world.get("Deployment")["spec"])
    assert world.edit(**bad).pass_() == ["status"]
    assert world.get("Deployment")["spec"] == before
    assert world.condition(condition)["reason"] == reason
    assert world.condition("Ready")["status"] == "True"
    assert world.look().requeue_after is None, "a spec error is terminal until it is edited"
    assert world.pass_() == []
    assert [note.reason for note in world.notes if note.type == "Warning"] == [reason]


def test_a_shared_cache_is_filled_before_a_replica_is_made(world: World) -> None:
    world.edit(cache=CLAIM).pass_()
    inspection = world.of("Job")[0]["spec"]["template"]["spec"]
    assert {"name": "cache", "emptyDir": {}} in inspection["volumes"], "where a volume is made waits for the plan"
    assert kinds(world.prepared().pass_()) == ["ControllerRevision", "Job", "status"]
    fetch = world.of("Job")[1]["spec"]["template"]["spec"]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}} in fetch["volumes"]
    arguments = fetch["containers"][0]["args"]
    assert {"--revision=c0ffee", "--make-room", "--service=apps/demo"} <= set(arguments)
    assert not any(word.startswith("--keep") for word in arguments), "nothing runs that must be spared"
    assert world.condition("Planned")["status"] == "True"
    assert world.condition("Ready")["reason"] == "Downloading"
    assert world.service["status"]["model"]["fileBytes"] > 0, "so much is being brought"
    assert "Deployment" in kinds(world.prepared().pass_())
    assert "initContainers" not in world.get("Deployment")["spec"]["template"]["spec"]
    assert world.condition("Cached")["reason"] == "Cached"


def test_a_download_is_told_which_services_there_are_so_that_those_that_are_gone_are_forgotten(world: World) -> None:
    world.services = ("other", "demo")
    world.edit(cache=CLAIM).pass_()
    world.prepared().pass_()
    assert "--services=demo,other" in _arguments(world.of("Job")[-1])
    world.services = ("demo",)
    assert world.pass_() == [], "a Job that is there stays as it is"


def test_of_very_many_services_a_download_is_told_none(world: World) -> None:
    world.services = ("demo", *(f"s{number}" for number in range(MOST_SERVICES)))
    world.edit(cache=CLAIM).pass_()
    world.prepared().pass_()
    assert not any(word.startswith("--services") for word in _arguments(world.of("Job")[-1]))


def test_the_model_that_replicas_run_is_spared_while_the_next_is_fetched(world: World) -> None:
    world.edit(cache=CLAIM).served()
    world.edit(model={"uri": "hf://acme/next"}).pass_()
    world.prepared().pass_()
    (fetch,) = (job for job in world.of("Job") if "--fetch" in _arguments(job) and "hf://acme/next" in str(job))
    assert "--keep=c0ffee" in _arguments(fetch)


def _arguments(job: Any) -> list[str]:
    found: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def test_a_filled_cache_is_remembered_when_the_pod_of_its_job_is_gone(world: World) -> None:
    world.edit(cache=CLAIM).served()
    world.objects = {key: obj for key, obj in world.objects.items() if key[0] != "Pod" or "runtime" in str(obj)}
    assert world.pass_() == []
    assert kinds(world.edit(replicas=2).pass_()) == ["Deployment", "status"]
    assert world.condition("Cached")["status"] == "True"


def test_a_model_of_the_image_needs_no_cache(world: World) -> None:
    world.edit(model={"uri": "file:///demo/model.gguf"}).pass_()
    world.prepared(dataclasses.replace(PREPARED, revision="", path="/demo/model.gguf")).pass_()
    pod = world.get("Deployment")["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp", "settings"]
    assert "resolvedRevision" not in world.service["status"]["model"]


def test_a_failed_preparation_is_told_and_tried_again_later(world: World) -> None:
    world.pass_()
    world.prepare_failed(FailureClass.MODEL_GATED, "The model is gated.", "Name a Secret with HF_TOKEN.").pass_()
    assert world.condition("Ready")["reason"] == "ModelGated"
    assert world.condition("Ready")["message"] == "The model is gated. Name a Secret with HF_TOKEN."
    assert world.pass_() == []
    wait = world.look().requeue_after
    assert wait is not None
    assert kinds(world.wait(wait).pass_())[:2] == ["-Job", "Job"]


def test_facts_that_are_lost_are_read_again(world: World) -> None:
    world.pass_()
    world.prepared()
    world.objects = {key: obj for key, obj in world.objects.items() if key[0] != "Pod"}
    assert kinds(world.pass_())[:2] == ["-Job", "Job"]


def test_a_job_that_is_seen_to_be_done_before_its_pod_is_not_made_anew(world: World) -> None:
    """They come by two watches."""
    world.pass_()
    world.prepared()
    pods = {key: obj for key, obj in world.objects.items() if key[0] == "Pod"}
    (job,) = world.of("Job")
    job["status"]["completionTime"] = "2026-01-01T00:00:00Z"
    world.objects = {key: obj for key, obj in world.objects.items() if key not in pods}
    assert "-Job" not in kinds(world.wait(1).pass_())
    world.objects |= pods
    assert "Deployment" in kinds(world.pass_())


def test_a_foreign_object_is_named_and_nothing_of_it_is_touched(world: World) -> None:
    world.refused = (Refused("Service", "demo", "NameConflict", "there"),)
    world.pass_()
    assert world.condition("NameConflict")["status"] == "True"
    assert world.condition("Ready")["reason"] == "NameConflict"


REFUSALS = [
    Refused("Service", "demo", "NameConflict", "there"),
    Refused("Service", "demo", "Invalid", "a DNS-1035 label must consist of lower case alphanumeric characters."),
    Refused("Service", "demo", "Forbidden", "exceeded quota: q, requested: services=1."),
]


@pytest.mark.parametrize("refused", REFUSALS, ids=lambda refused: refused.reason)
def test_nothing_is_ready_that_no_request_reaches(world: World, refused: Refused) -> None:
    """Replicas are ready, and the Service that would lead to them is somebody else's or is not there."""
    world.refused = (refused,)
    world.served()
    assert world.service["status"]["readyReplicas"] == 1
    reason = "NameConflict" if refused.reason == "NameConflict" else "WriteRefused"
    for kind in ("Ready", "Available"):
        assert (world.condition(kind)["status"], world.condition(kind)["reason"]) == ("False", reason)
        assert "Service demo" in world.condition(kind)["message"]
    assert "url" not in world.service["status"]
    world.refused = ()
    world.pass_()
    assert world.condition("Ready")["status"] == world.condition("Available")["status"] == "True"
    assert world.service["status"]["url"]


@pytest.mark.parametrize("kind", ["ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "Job", "Deployment"])
def test_what_else_is_refused_is_told_beside_what_is_served(world: World, kind: str) -> None:
    world.served()
    world.refused = (Refused(kind, "demo", "Forbidden", "exceeded quota: q."),)
    world.pass_()
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "WriteRefused")
    assert kind in ready["message"]
    assert world.service["status"]["url"]


def test_a_service_that_leads_elsewhere_serves_nothing(world: World) -> None:
    """Its selector was changed, and an admission rule refuses to have it changed back."""
    world.served()
    world.refused = (Refused("Service", "demo", "Forbidden", "admission webhook denied the request."),)
    world.get("Service")["spec"]["selector"] = {"app": "theirs"}
    world.pass_()
    assert world.condition("Ready")["status"] == "False"
    assert "url" not in world.service["status"]


def test_a_field_of_a_newer_crd_is_ignored_and_told(world: World) -> None:
    """An upgrade brings the CRD first; its defaults are in every service at once."""
    world.served()
    before = copy.deepcopy(world.get("Deployment"))
    spec = world.service["spec"]
    spec["turbo"] = {"enabled": True}
    spec["engine"] = {"type": "Auto", "speculation": "Off"}
    assert world.pass_() == ["status"]
    assert world.get("Deployment") == before
    valid = world.condition("SpecValid")
    assert (valid["status"], valid["reason"]) == ("True", "FieldsIgnored")
    assert "spec.engine.speculation" in valid["message"] and "spec.turbo" in valid["message"]
    assert world.condition("Ready")["status"] == "True"
    assert kinds(world.edit(replicas=2).pass_()) == ["Deployment", "status"], "and it is worked on as before"


def test_a_value_of_a_newer_crd_is_named_and_not_guessed(world: World) -> None:
    world.served()
    world.edit(cache={"type": "Shared", "shared": {"name": "x"}}).pass_()
    valid = world.condition("SpecValid")
    assert (valid["status"], valid["reason"]) == ("False", "Invalid")
    assert 'spec.cache.type: "Shared" is not one of EmptyDir' in valid["message"]
    assert "bring the operator to it" in valid["message"]
    assert "spec.cache.shared" not in valid["message"]
    assert world.condition("Ready")["reason"] == "ServingEarlierSpec"


def test_what_is_not_to_run_is_stopped_only_once_its_model_is_read(world: World) -> None:
    world.edit(replicas=0, cache=CLAIM).pass_()
    assert world.condition("Ready")["reason"] == "Resolving"
    world.prepared().pass_()
    assert world.condition("Ready")["reason"] == "Downloading"
    world.prepared().pass_()
    assert world.condition("Ready")["reason"] == "Stopped"


def test_a_volume_on_another_node_is_why_a_replica_has_none(world: World) -> None:
    world.served()
    world.edit(contextTokens=1024).pass_()
    world.no_node(
        world.replica("new"), "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity"
    )
    world.pass_()
    scheduled = world.condition("Scheduled")
    assert (scheduled["status"], scheduled["reason"]) == ("False", "VolumeFailed")


def test_an_invalid_edit_does_not_make_ready_what_no_request_reaches(world: World) -> None:
    world.refused = REFUSALS[:1]
    world.served()
    world.edit(engine={"type": "Quantum"}).pass_()
    assert world.condition("SpecValid")["status"] == world.condition("Ready")["status"] == "False"
    assert "url" not in world.service["status"]


def test_a_foreign_object_is_looked_for_again_within_half_a_minute(world: World) -> None:
    world.refused = REFUSALS[:1]
    world.served()
    wait = world.look().requeue_after
    assert wait is not None and wait <= 30


def test_a_service_that_is_being_deleted_is_left_to_its_owner_references(world: World) -> None:
    world.served()
    world.service["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert world.pass_() == []
    owned = [obj for obj in world.objects.values() if obj["kind"] != "Pod"]
    assert all(obj["metadata"]["ownerReferences"][0]["uid"] == "u-1" for obj in owned)


def test_what_a_former_service_of_the_name_left_is_not_taken_for_ones_own(world: World) -> None:
    world.served()
    world.service["metadata"]["uid"] = "u-2"
    world.service.pop("status")
    outcome = world.look()
    assert outcome.delete == ()
    assert "Deployment" not in {child["kind"] for child in outcome.apply}


def test_old_revisions_are_pruned(world: World) -> None:
    world.served()
    for tokens in range(1000, 1800, 100):
        world.edit(contextTokens=tokens).pass_()
        world.rolled_out().pass_()
    assert len(world.of("ControllerRevision")) == 3
    assert world.pass_() == []


def test_a_surge_without_room_is_replaced_in_place_and_announced(world: World) -> None:
    world.served()
    world.edit(contextTokens=1024).pass_()
    world.no_node(world.replica("new"))
    world.pass_()
    assert world.get("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    wait = world.look().requeue_after
    assert wait is not None and wait <= 60
    world.wait(60).pass_()
    assert world.get("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    world.rolled_out().pass_()
    assert world.get("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert world.condition("Ready")["status"] == "True"


def test_a_gpu_is_asked_for_by_resource_product_and_toleration() -> None:
    world = World(GPU_CONFIG, L4_NODES)
    world.served()
    pod = world.get("Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "runtime:cuda"
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["NVIDIA-L4"]


def test_a_gpu_that_no_node_has_is_left_to_the_scheduler_and_then_named() -> None:
    world = World(GPU_CONFIG).edit(accelerator={"resourceName": "nvidia.com/gpu", "count": 1})
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Planned")["reason"] == "FitUnknown"
    world.no_node(world.replica("one"), "Insufficient nvidia.com/gpu")
    world.pass_()
    assert world.condition("Scheduled")["reason"] == "NoSuchGPU"
    assert "accelerator.resourceName" in world.condition("Ready")["message"]


def test_a_model_that_fits_no_gpu_is_refused_before_anything_runs() -> None:
    big = dataclasses.replace(FACTS, parameters=70_000_000_000, weight_bytes=140 << 30, layer_weight_bytes=())
    world = World(GPU_CONFIG, L4_NODES).edit(accelerator={"count": 1})
    world.pass_()
    world.prepared(dataclasses.replace(PREPARED, facts=big)).pass_()
    assert world.condition("Planned")["reason"] == "DoesNotFit"
    assert world.of("Deployment") == []


def test_nodes_that_may_not_be_read_leave_the_fit_unknown() -> None:
    world = World(nodes=None)
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Planned")["reason"] == "FitUnknown"
    assert world.of("Deployment")


def test_an_engine_that_no_image_carries_is_refused(world: World) -> None:
    world.config = dataclasses.replace(CONFIG, images=(RuntimeImage("r", (EngineType.TRANSFORMERS,)), CPU_IMAGE)[:1])
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Planned")["reason"] == "EngineNotInstalled"


EDITS = st.sampled_from(
    [
        {"replicas": 0},
        {"replicas": 3},
        {"contextTokens": 512},
        {"contextTokens": 4096},
        {"contextTokens": 10**9},
        {"cache": CLAIM},
        {"cache": {}},
        {"model": {"uri": "hf://a/other"}},
        {"model": {"uri": "file:///demo/m.gguf"}},
        {"task": "Nonsense"},
        {"task": "Chat"},
        {"serviceAccountName": "me"},
        {"endpoint": {"drainSeconds": 5}},
    ]
)
EVENTS = st.sampled_from(["prepared", "rolled_out", "lost", "time"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(EDITS, EVENTS), max_size=8))
def test_whatever_happens_a_second_pass_writes_nothing(steps: list[dict[str, object] | str]) -> None:
    world = World()
    world.pass_()
    for step in steps:
        if isinstance(step, dict):
            world.edit(**step)
        elif step == "prepared" and world.of("Job"):
            world.prepared()
        elif step == "rolled_out" and world.of("Deployment"):
            world.rolled_out()
        elif step == "lost":
            world.objects.pop(("Deployment", "demo"), None)
        else:
            world.wait(400)
        world.pass_()
        assert world.pass_() == []
        json.dumps(world.service)


@pytest.mark.parametrize("nodes", [None, (), "seen"])
def test_a_memory_limit_that_is_too_small_is_what_is_to_be_raised(nodes: Any) -> None:
    """The limit is the spec's own: no node that nobody has seen makes up for it."""
    world = World(**({} if nodes == "seen" else {"nodes": nodes})).edit(resources={"limits": {"memory": "1Gi"}})
    world.pass_()
    world.prepared().pass_()
    ready = world.condition("Ready")
    assert ready["reason"] == "DoesNotFit"
    assert "Raise resources.limits.memory to" in ready["message"]
    assert not world.of("Deployment")


def test_a_change_that_fails_is_seen_beside_the_version_that_serves() -> None:
    """One line of kubectl: requests are served, and not as the spec says."""
    world = World()
    world.served()
    world.edit(contextTokens=1024).pass_()
    new = world.replica("demo-new")
    new["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    world.pass_()
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "ServingEarlierSpec")
    assert "ImagePullFailed" in ready["message"]
    assert world.service["status"]["ready"] == "1/1"


def test_while_a_download_is_tried_again_the_failure_stays_known() -> None:
    world = World()
    world.pass_()
    world.prepare_failed(FailureClass.HUB_UNREACHABLE, "No route.", "Check it.")
    job = world.of("Job")[-1]
    job["status"] = {"active": 1}
    again = {"name": "again", "labels": world.of("Pod")[-1]["metadata"]["labels"], "creationTimestamp": "2026-01-02"}
    world.objects["Pod", "again"] = {"kind": "Pod", "metadata": again, "spec": {}, "status": {"phase": "Pending"}}
    world.pass_()
    assert world.condition("Ready")["reason"] == "HubUnreachable"


def test_an_accelerator_that_no_image_is_built_for_is_refused_and_not_replaced_by_the_cpu() -> None:
    world = World(config=GPU_CONFIG).edit(accelerator={"resourceName": "amd.com/gpu"})
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Ready")["reason"] == "EngineNotInstalled"
    assert "amd.com/gpu" in world.condition("Ready")["message"]
    assert not world.of("Deployment")
