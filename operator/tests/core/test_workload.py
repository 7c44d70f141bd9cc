"""Cache claims, upgrades, own images, queues and pod templates, from the manifest to the children."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from core_world import CONFIG, GPU_CONFIG, L4_NODES, World  # type: ignore[import-not-found]
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_api.labels import QUEUE
from llmservice_operator.facts.config import RuntimeImage
from llmservice_operator.facts.values import Refused
from llmservice_runtime.contract.engines import EngineType

FOLLOW = {"upgradePolicy": "Follow"}
NEXT = dataclasses.replace(CONFIG, images=(RuntimeImage("runtime:next", (EngineType.LLAMA_CPP,)),))
MADE = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "20Gi", "storageClassName": "fast"}}


def template(world: World) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(world.get("Deployment")["spec"]["template"])
    return found


def notes(world: World) -> str:
    return " ".join(world.service["status"]["plan"].get("notes", ()))


def test_a_service_that_follows_takes_over_a_new_image_without_another_look_at_the_model(world: World) -> None:
    world.edit(rollout=FOLLOW).served()
    world.config = NEXT
    written = world.pass_()
    assert [name.split()[0] for name in written] == ["ControllerRevision", "Deployment", "status"]
    assert template(world)["spec"]["containers"][0]["image"] == "runtime:next"
    assert world.service["status"]["plan"]["image"] == "runtime:next"
    assert world.service["status"]["model"]["resolvedRevision"] == "c0ffee"
    world.rolled_out().pass_()
    assert world.pass_() == []


def test_a_new_release_is_followed_and_other_peoples_settings_are_not(world: World) -> None:
    world.edit(rollout=FOLLOW).served()
    world.config = dataclasses.replace(CONFIG, gateway_namespace="gate", cluster_domain="corp")
    assert "ControllerRevision" not in str(world.pass_())
    world.config = dataclasses.replace(CONFIG, release="0.2.0")
    assert "ControllerRevision" in str(world.pass_())


def test_turning_following_on_and_off_restarts_nothing(world: World) -> None:
    world.served()
    before = template(world)
    world.edit(rollout=FOLLOW).pass_()
    assert template(world) == before
    world.config = NEXT
    world.pass_()
    world.rolled_out().pass_()
    after = template(world)
    assert after != before
    world.edit(rollout={"upgradePolicy": "Pinned"}).pass_()
    assert template(world) == after


def test_a_pinned_service_is_told_of_a_newer_image_and_keeps_its_own(world: World) -> None:
    world.served()
    assert notes(world) == ""
    before = template(world)
    world.config = NEXT
    assert world.pass_() == ["status"]
    assert template(world) == before
    assert "runtime:next" in notes(world) and "rollout.upgradePolicy: Follow" in notes(world)
    assert world.service["status"]["currentRevision"] == world.of("ControllerRevision")[0]["metadata"]["name"]


def test_an_edit_needs_no_other_look_at_the_model(world: World) -> None:
    world.served()
    world.objects = {key: obj for key, obj in world.objects.items() if key[0] not in ("Job", "Pod")}
    assert [name.split()[0] for name in world.edit(contextTokens=1024).pass_()] == [
        "ControllerRevision",
        "Deployment",
        "status",
    ]


def test_a_claim_is_made_and_filled_before_replicas(world: World) -> None:
    world.edit(cache=MADE).pass_()
    claim = world.get("PersistentVolumeClaim", "demo-models")
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "20Gi"}},
        "storageClassName": "fast",
    }
    assert claim["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    world.prepared().pass_()
    fetch = world.of("Job")[-1]["spec"]["template"]["spec"]
    mounted = {"name": "cache", "persistentVolumeClaim": {"claimName": "demo-models"}}
    assert mounted in fetch["volumes"]
    assert world.of("Deployment") == []
    world.prepared().pass_()
    assert mounted in template(world)["spec"]["volumes"]


def test_a_claim_of_one_node_is_no_cache_of_several_replicas(world: World) -> None:
    world.edit(cache=MADE).served()
    world.edit(replicas=2).pass_()
    assert world.condition("SpecValid")["status"] == "False"
    assert "ReadWriteMany" in world.condition("SpecValid")["message"]
    assert world.get("Deployment")["spec"]["replicas"] == 1
    world.edit(cache={"type": "EmptyDir"}).pass_()
    assert world.condition("SpecValid")["status"] == "True"


def test_the_cache_is_filled_where_the_gpu_is() -> None:
    world = World(GPU_CONFIG, L4_NODES).edit(cache=MADE, podTemplate={"spec": {"nodeSelector": {"pool": "gpu"}}})
    world.pass_()
    assert "affinity" not in world.of("Job")[0]["spec"]["template"]["spec"], "the inspection takes no volume anywhere"
    world.prepared().pass_()
    fetch, _ = world.of("Job")[-1]["spec"]["template"]["spec"], world.prepared().pass_()
    pod = template(world)["spec"]
    for name in ("affinity", "tolerations", "nodeSelector"):
        assert fetch[name] == pod[name]
    assert fetch["affinity"]["nodeAffinity"]
    assert "nvidia.com/gpu" not in str(fetch["containers"][0]["resources"]), "no GPU is taken for a download"


def test_where_no_label_tells_the_first_download_takes_the_gpu_whose_node_the_volume_will_have() -> None:
    world = World(GPU_CONFIG, None).edit(cache=MADE, accelerator={"count": 2})
    world.pass_()
    world.prepared().pass_()
    limits = world.of("Job")[-1]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "2", "memory": "512Mi", "nvidia.com/gpu": "2"}
    world.prepared().pass_()
    world.get("PersistentVolumeClaim", "demo-models")["status"] = {"phase": "Bound"}
    world.edit(model={"uri": "hf://a/other"}).pass_()
    world.prepared().pass_()
    limits = world.of("Job")[-1]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "2", "memory": "512Mi"}


def test_devices_of_resource_claims_are_not_asked_for_twice() -> None:
    claims = {
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
        "containers": [{"name": "runtime", "resources": {"claims": [{"name": "gpu"}]}}],
    }
    world = World(GPU_CONFIG).edit(accelerator={"count": 1}, podTemplate={"spec": claims})
    world.served()
    pod = template(world)["spec"]
    assert pod["resourceClaims"] == claims["resourceClaims"]
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "limits" not in pod["containers"][0]["resources"] or not pod["containers"][0]["resources"]["limits"]
    assert pod["containers"][0]["image"] == "runtime:cuda"
    assert "resource claims" in notes(world)
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_an_image_of_ones_own_runs_and_is_told(world: World) -> None:
    world.config = dataclasses.replace(CONFIG, images=(RuntimeImage("other:1", (EngineType.TRANSFORMERS,)),))
    world.edit(engine={"type": "LlamaCpp", "image": "mine/runtime:1"}).served()
    assert world.of("Job")[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "other:1"
    assert template(world)["spec"]["containers"][0]["image"] == "mine/runtime:1"
    assert "mine/runtime:1" in notes(world)


def test_a_queue_holds_what_needs_room(world: World) -> None:
    world.service["metadata"]["labels"] = {QUEUE: "team"}
    world.served()
    for child in (world.of("Job")[0], world.get("Deployment")):
        assert child["metadata"]["labels"][QUEUE] == "team"
    assert template(world)["metadata"]["labels"][QUEUE] == "team"
    assert QUEUE not in world.get("Service")["metadata"]["labels"]
    before = template(world)
    world.service["metadata"]["labels"] = {QUEUE: "other"}
    world.pass_()
    assert template(world) != before


def test_a_job_that_a_queue_holds_back_is_told(world: World) -> None:
    world.service["metadata"]["labels"] = {QUEUE: "team"}
    world.pass_()
    world.of("Job")[0]["spec"]["suspend"] = True
    world.wait(60).pass_()
    assert world.condition("Ready")["reason"] == "Waiting"
    assert "queue" in world.condition("Ready")["message"]


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"image": "x:1"}, "spec.podTemplate.spec.containers[runtime].image is the plan's. Use spec.engine.image."),
        ({"volumeMounts": [{"name": "x", "mountPath": "/tmp"}]}, "volumeMounts[/tmp]"),
    ],
)
def test_a_template_over_the_plans_fields_is_invalid_and_leaves_what_runs(
    world: World, container: Any, said: str
) -> None:
    world.served()
    before = template(world)
    world.edit(podTemplate={"spec": {"containers": [{"name": "runtime", **container}]}}).pass_()
    assert world.condition("SpecValid")["reason"] == "Invalid"
    assert said in world.condition("SpecValid")["message"]
    assert template(world) == before
    assert world.condition("Ready")["status"] == "True"


def test_a_pod_template_reaches_the_replica_and_says_what_it_overrides(world: World) -> None:
    pod = {
        "priorityClassName": "high",
        "topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}],
        "containers": [{"name": "runtime", "startupProbe": {"failureThreshold": 999}}],
    }
    world.edit(podTemplate={"spec": pod}).served()
    made = template(world)["spec"]
    assert made["priorityClassName"] == "high"
    (spread,) = made["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == world.get("Deployment")["spec"]["selector"]["matchLabels"]
    assert made["containers"][0]["startupProbe"]["failureThreshold"] == 999
    assert made["containers"][0]["startupProbe"]["httpGet"]
    assert "spec.containers[runtime].startupProbe.failureThreshold" in notes(world)


def test_a_refused_pod_is_told_in_the_manifests_words(world: World) -> None:
    message = 'Deployment.apps "demo" is invalid: spec.template.spec.tolerations[1].operator: Invalid value: "Is"'
    world.refused = (Refused("Deployment", "demo", "Invalid", message),)
    world.pass_()
    assert "spec.template.spec.tolerations" in world.condition("Ready")["message"], "not every pod has a podTemplate"
    world.edit(podTemplate={"spec": {"tolerations": [{"key": "a", "operator": "Is"}]}}).pass_()
    assert "spec.podTemplate.spec.tolerations[1].operator: Invalid value" in world.condition("Ready")["message"]


STEPS = st.sampled_from(
    [
        {"cache": MADE},
        {"cache": {"type": "EmptyDir"}},
        {"replicas": 1},
        {"replicas": 3},
        {"rollout": FOLLOW},
        {"rollout": {}},
        {"podTemplate": {"spec": {"tolerations": [{"key": "a"}], "containers": None}}},
        {"podTemplate": {"spec": {"priorityClassName": "high", "volumes": "none"}}},
        {"podTemplate": {"spec": {"affinity": 1, "containers": [3, {"name": "runtime", "image": "x"}]}}},
        {"podTemplate": None},
        {"engine": {"type": "LlamaCpp", "image": "mine:1"}},
        {"engine": {}},
        "next",
        "first",
        "queue",
        "prepared",
        "rolled_out",
        "jobs lost",
        "time",
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=8))
def test_whatever_is_combined_a_second_pass_writes_nothing(steps: list[dict[str, Any] | str]) -> None:
    world = World()
    world.pass_()
    for step in steps:
        if isinstance(step, dict):
            world.edit(**step)
        elif step in ("next", "first"):
            world.config = NEXT if step == "next" else CONFIG
        elif step == "queue":
            world.service["metadata"]["labels"] = {QUEUE: "team"}
        elif step == "prepared" and world.of("Job"):
            world.prepared()
        elif step == "rolled_out" and world.of("Deployment"):
            world.rolled_out()
        elif step == "jobs lost":
            world.objects = {key: obj for key, obj in world.objects.items() if key[0] not in ("Job", "Pod")}
        else:
            world.wait(400)
        world.pass_()
        assert world.pass_() == []
