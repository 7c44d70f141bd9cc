"""An unpinned model is read anew when spec.model was edited or a download finds other content; status says which."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from core_world import CONFIG, PREPARED, World  # type: ignore[import-not-found]

from llmservice_operator.decide.preparation import RETRY_SECONDS
from llmservice_operator.facts.config import RuntimeImage
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.prepare.report import Prepared

Json = dict[str, Any]
CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}
NEW = dataclasses.replace(PREPARED, revision="beef", path="/cache/models/hf/a--b/beef/model-Q4_K_M.gguf")
GONE = (FailureClass.MODEL_CHANGED, FailureClass.MODEL_NOT_FOUND)


def replica_lost_its_source(world: World, failure: FailureClass) -> None:
    """A replica that starts anew can't download what was planned with."""
    pod = world.replica("restarted")
    record = FailureRecord(failure, "The content there is now beef, not c0ffee.", "Mend it.", "Preparing").to_json()
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": record}}
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    pod["status"]["initContainerStatuses"] = [
        {"name": "fetch", "image": "r", "ready": False, "restartCount": 3, "state": waits, "lastState": ended}
    ]


def kinds(written: list[str]) -> list[str]:
    return [name.split()[0] for name in written]


def plan_revision(world: World) -> str:
    found: str = world.service["status"]["model"]["resolvedRevision"]
    return found


def arguments(world: World) -> list[str]:
    pod = world.get("Deployment")["spec"]["template"]["spec"]
    found: list[str] = pod["initContainers"][0]["args"]
    return found


@pytest.mark.parametrize("failure", GONE)
def test_a_replica_whose_source_changed_gets_what_is_there_now(world: World, failure: FailureClass) -> None:
    world.served()
    replica_lost_its_source(world, failure)
    world.pass_()
    resolved = world.condition("ModelResolved")
    assert (resolved["status"], resolved["reason"]) == ("Unknown", "Resolving")
    assert "anew, since the source no longer has c0ffee" in resolved["message"]
    assert world.condition("Ready")["status"] == "True", "the replica that has it still serves"
    assert world.condition("Progressing")["reason"] == "Resolving"
    assert world.pass_() == [], "and it is asked once"
    world.prepared(NEW).pass_()
    assert "--revision=beef" in arguments(world)
    world.rolled_out().pass_()
    assert plan_revision(world) == "beef"
    assert world.condition("ModelResolved")["message"].endswith("read anew, since the source no longer has c0ffee.")
    assert len(world.of("Job")) == 0, "the Job that read it anew has done its work"
    assert world.pass_() == []
    world.edit(contextTokens=1024).pass_()
    assert "--revision=beef" in arguments(world), "another plan for the same model does not bring the old content back"
    world.edit(contextTokens=None).pass_()
    assert "--revision=beef" in arguments(world)


@pytest.mark.parametrize("failure", GONE)
def test_a_cache_whose_source_changed_is_filled_with_what_is_there_now(world: World, failure: FailureClass) -> None:
    world.edit(cache=CLAIM).pass_()
    world.prepared().pass_()
    world.prepare_failed(failure, "The content there is now beef, not c0ffee.", "Mend it.").pass_()
    assert "no longer has c0ffee" in world.condition("ModelResolved")["message"]
    assert world.condition("Progressing")["status"] == "True"
    assert world.pass_() == []
    assert "-Job" not in kinds(world.wait(RETRY_SECONDS).pass_()), "the download is not tried again with what is gone"
    world.prepared(NEW).pass_()
    assert "--revision=beef" in world.of("Job")[-1]["spec"]["template"]["spec"]["containers"][0]["args"]
    world.prepared(NEW).pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "beef"
    assert world.condition("Ready")["reason"] == "Ready"
    assert world.pass_() == []


def test_a_plan_from_before_the_change_is_not_taken_up_again(world: World) -> None:
    world.served()
    world.edit(contextTokens=1024).pass_()
    world.rolled_out().pass_()
    replica_lost_its_source(world, FailureClass.MODEL_CHANGED)
    world.pass_()
    world.prepared(NEW).pass_()
    world.rolled_out().pass_()
    world.edit(contextTokens=None).pass_()
    assert "--revision=beef" in arguments(world)
    assert world.pass_() == []


def test_a_branch_pins_nothing(world: World) -> None:
    """Its commit may go, as after a forced push: what the branch says now is meant."""
    world.edit(model={"uri": "hf://a/b", "revision": "main"}).served()
    replica_lost_its_source(world, FailureClass.MODEL_NOT_FOUND)
    world.pass_()
    job = world.of("Job")[-1]["spec"]["template"]["spec"]["containers"][0]
    assert "--revision=main" in job["args"]
    world.prepared(NEW).pass_()
    assert "--revision=beef" in arguments(world)


def test_a_pinned_model_stays_what_it_is_pinned_to(world: World) -> None:
    world.edit(model={"uri": "https://h/x.gguf", "revision": "c0ffee"}).served()
    jobs = len(world.of("Job"))
    replica_lost_its_source(world, FailureClass.MODEL_CHANGED)
    world.pass_()
    assert len(world.of("Job")) == jobs
    assert "now beef, not c0ffee" in world.condition("Ready")["message"]


@pytest.mark.parametrize("out", [{"revision": "beef"}, {}])
def test_the_ways_out_of_a_pin_that_no_longer_holds_end_well(world: World, out: Json) -> None:
    """It was left out first, then pinned: leaving it out again must not bring the first plan back."""
    uri = {"uri": "https://h/x.gguf"}
    world.edit(model=uri).served()
    world.edit(model={**uri, "revision": "c0ffee"}).pass_()
    world.prepared().pass_()
    world.rolled_out().pass_()
    replica_lost_its_source(world, FailureClass.MODEL_CHANGED)
    world.edit(model={**uri, **out}).pass_()
    world.prepared(NEW).pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "beef"
    assert "--revision=beef" in arguments(world)
    assert world.condition("Ready")["reason"] == "Ready"


def to_another_model_and_back(world: World) -> None:
    world.served()
    world.edit(model={"uri": "hf://a/other"}).pass_()
    world.prepared(dataclasses.replace(PREPARED, revision="0ther")).pass_()
    world.rolled_out().pass_()
    world.edit(model={"uri": "hf://a/b"}).pass_()


def test_a_model_that_comes_back_is_read_anew(world: World) -> None:
    to_another_model_and_back(world)
    assert "anew, since spec.model was edited" in world.condition("ModelResolved")["message"]
    assert plan_revision(world) == "0ther", "what runs goes on"
    world.prepared(NEW).pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "beef"
    assert "since spec.model was edited" in world.condition("ModelResolved")["message"]
    assert world.pass_() == []


def test_a_model_that_comes_back_and_is_the_same_gets_its_plan_back(world: World) -> None:
    world.served()
    before = world.get("Deployment")["spec"]["template"]
    world = World()
    to_another_model_and_back(world)
    world.prepared().pass_()
    assert world.get("Deployment")["spec"]["template"] == before
    world.rolled_out().pass_()
    assert world.pass_() == []
    assert len(world.of("ControllerRevision")) == 2


def test_every_turn_to_another_model_reads_it_anew(world: World) -> None:
    """There, back to the same content, and there again."""
    to_another_model_and_back(world)
    world.prepared().pass_()
    world.rolled_out().pass_()
    assert world.pass_() == []
    world.edit(model={"uri": "hf://a/other"}).pass_()
    assert "anew, since spec.model was edited" in world.condition("ModelResolved")["message"]
    world.prepared(NEW).pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "beef"
    assert world.pass_() == []


def test_a_model_that_comes_back_while_its_hub_is_away_runs_as_it_was(world: World) -> None:
    to_another_model_and_back(world)
    world.prepare_failed(FailureClass.HUB_UNREACHABLE, "No route.", "Check it.").pass_()
    assert plan_revision(world) == "c0ffee"
    assert "No route." not in world.condition("Ready")["message"]
    world.rolled_out().pass_()
    assert world.condition("Ready")["reason"] == "Ready"
    assert world.pass_() == []


def test_an_edit_that_nothing_came_of_reads_nothing_anew(world: World) -> None:
    world.served()
    world.edit(model={"uri": "hf://a/no-such"}).pass_()
    world.prepare_failed(FailureClass.MODEL_NOT_FOUND, "No such model.", "Check it.").pass_()
    world.edit(model={"uri": "hf://a/b"}).pass_()
    assert world.condition("ModelResolved")["status"] == "True"
    assert world.condition("Ready")["reason"] == "Ready"


def test_a_source_that_changes_under_every_download_rolls_now_and_then_and_not_without_an_end(world: World) -> None:
    """As a server does that gives another ETag to every request."""
    world.served()
    replica_lost_its_source(world, FailureClass.MODEL_CHANGED)
    world.pass_()
    world.prepared(NEW).pass_()
    world.objects.pop(("Pod", "restarted"))
    replica_lost_its_source(world, FailureClass.MODEL_CHANGED)
    world.pass_()
    assert world.of("Job") == []
    assert "beef, not c0ffee" in world.condition("Progressing")["message"]
    wait = world.look().requeue_after
    assert wait is not None and wait <= RETRY_SECONDS
    assert "Job" in kinds(world.wait(RETRY_SECONDS).pass_())


def test_a_source_that_cannot_make_up_its_mind_is_asked_now_and_then(world: World) -> None:
    """The download says that it changed, and whoever reads it again finds what was there."""
    world.served()
    replica_lost_its_source(world, FailureClass.MODEL_CHANGED)
    world.pass_()
    world.prepared()
    world.of("Job")[-1]["status"]["completionTime"] = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.pass_()
    assert world.pass_() == []
    assert "--revision=c0ffee" in arguments(world)
    assert "the same" in world.condition("ModelResolved")["message"]
    wait = world.look().requeue_after
    assert wait is not None and wait <= RETRY_SECONDS
    written = world.wait(RETRY_SECONDS).pass_()
    assert kinds(written)[:2] == ["-Job", "Job"]
    world.prepared(NEW).pass_()
    assert "--revision=beef" in arguments(world)


TOLERATED = {"podTemplate": {"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}}}
SURROUNDINGS: list[Json] = [
    TOLERATED,
    {"podTemplate": {"metadata": {"labels": {"team": "x"}}}},
    {"podTemplate": {"spec": {"nodeSelector": {"pool": "b"}}}},
    {"podTemplate": {"spec": {"containers": [{"name": "runtime", "env": [{"name": "A", "value": "b"}]}]}}},
    {"serviceAccountName": "other"},
    {"prepare": {"resources": {"limits": {"memory": "1Gi"}}}},
    {"prepare": {"resources": {"limits": {"memory": "1Gi"}}}, "contextTokens": 2048},
    {"contextTokens": 2048},
]
"""Edits that leave spec.model alone."""


def jobs(world: World, kind: str) -> list[str]:
    return [name for job in world.of("Job") if f"-{kind}-" in (name := job["metadata"]["name"])]


@pytest.mark.parametrize("fields", SURROUNDINGS, ids=str)
def test_an_edit_beside_the_model_keeps_its_content_and_asks_no_source(world: World, fields: Json) -> None:
    world.served()
    before = jobs(world, "prepare")
    world.edit(**fields).pass_()
    assert set(jobs(world, "prepare")) <= set(before)
    assert world.condition("ModelResolved")["status"] == "True"
    assert "--revision=c0ffee" in arguments(world)
    world.rolled_out().pass_()
    assert plan_revision(world) == "c0ffee"
    assert world.condition("Ready")["reason"] == "Ready"
    assert world.pass_() == []


def test_an_edit_beside_the_model_fills_the_claim_with_the_same_content(world: World) -> None:
    world.edit(cache=CLAIM).served()
    before = jobs(world, "fetch")
    world.edit(**TOLERATED).pass_()
    assert jobs(world, "prepare") == [] and len(filling := jobs(world, "fetch")) == 1 and filling != before
    pod = world.of("Job")[-1]["spec"]["template"]["spec"]
    assert "--revision=c0ffee" in pod["containers"][0]["args"]
    assert pod["tolerations"] == [{"key": "a", "operator": "Exists"}]
    assert {"claimName": "models"} in [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
    world.prepared().pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "c0ffee"
    assert world.condition("Ready")["reason"] == "Ready"
    assert world.pass_() == []


def test_a_plan_that_is_refused_asks_no_source_for_what_is_known(world: World) -> None:
    world.served()
    world.edit(**TOLERATED, resources={"limits": {"memory": "1Gi"}}).pass_()
    assert world.condition("Planned")["status"] == "False"
    assert jobs(world, "prepare") == []


def test_a_model_that_comes_back_with_another_plan_is_read_anew_as_well(world: World) -> None:
    to_another_model_and_back(world)
    world.edit(contextTokens=1024).pass_()
    assert "anew, since spec.model was edited" in world.condition("ModelResolved")["message"]
    world.prepared(NEW).pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "beef"
    assert world.pass_() == []


def test_a_model_that_comes_back_with_another_plan_while_its_hub_is_away_has_the_content_that_it_had(
    world: World,
) -> None:
    to_another_model_and_back(world)
    world.edit(contextTokens=1024).pass_()
    world.prepare_failed(FailureClass.HUB_UNREACHABLE, "No route.", "Check it.").pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "c0ffee"
    assert "anew" not in world.condition("ModelResolved")["message"]
    assert world.condition("Ready")["reason"] == "Ready"
    assert world.pass_() == []


def test_a_plan_of_an_earlier_release_that_does_not_say_its_model_goes_on(world: World) -> None:
    world.served()
    for revision in world.of("ControllerRevision"):
        del revision["data"]["model"]
    assert world.pass_() == []
    world.edit(contextTokens=1024).pass_()
    assert "--revision=c0ffee" in arguments(world)
    assert len(jobs(world, "prepare")) == 1, "the one there was"


LESS = "an earlier release read less of its headers"


def lacking(prepared: str = PREPARED.to_json()) -> str:
    """The same as a release reported it that did not look for widths, nor for what layers index."""
    body = json.loads(prepared)
    del body["facts"]["widths"]
    for group in body["facts"]["layers"]:
        del group["index_bytes"]
    return json.dumps(body)


def upgraded() -> World:
    """A service that serves by a plan of an earlier release; its Job was cleaned up since."""
    world = World().served()
    (revision,) = world.of("ControllerRevision")
    revision["data"]["prepared"] = lacking()
    del world.objects["Job", world.of("Job")[-1]["metadata"]["name"]]
    return world


def test_an_upgrade_alone_reads_nothing_and_an_edit_reads_what_the_earlier_release_did_not() -> None:
    world = upgraded()
    assert world.pass_() == [] and world.edit(replicas=2).rolled_out().pass_() is not None
    assert world.of("Job") == [], "live fields make no plan"
    world.rolled_out().edit(resources={"limits": {"memory": "16Gi"}}).pass_()
    (job,) = world.of("Job")
    assert "--revision=c0ffee" in job["spec"]["template"]["spec"]["containers"][0]["args"], "of the same content"
    assert LESS in world.condition("ModelResolved")["message"]
    assert world.condition("Ready")["status"] == "True", "what ran still runs"
    assert len(world.of("ControllerRevision")) == 1 and world.pass_() == []
    world.prepared().pass_()
    newest = max(world.of("ControllerRevision"), key=lambda revision: revision["revision"])
    assert not Prepared.from_json(newest["data"]["prepared"]).lacking
    assert f"read anew, since {LESS}" in world.condition("ModelResolved")["message"]
    world.rolled_out().pass_()
    assert world.of("Job") == [] and world.pass_() == []
    world.edit(contextTokens=1024).pass_()
    assert world.of("Job") == [], "what this release read serves for every other plan"


@pytest.mark.parametrize("failure", [FailureClass.HUB_UNREACHABLE, *GONE])
def test_where_it_cannot_be_read_anew_what_is_known_is_planned_with(failure: FailureClass) -> None:
    world = upgraded()
    world.edit(contextTokens=1024).pass_()
    world.prepare_failed(failure, "It is not there.", "Wait.").pass_()
    newest = max(world.of("ControllerRevision"), key=lambda revision: revision["revision"])
    assert newest["revision"] == 2 and Prepared.from_json(newest["data"]["prepared"]).lacking, "it is not forgotten"
    world.rolled_out().pass_()
    assert world.condition("Ready")["status"] == "True"
    assert world.of("Job") == [] and world.pass_() == []


def test_a_plan_that_stays_refused_asks_a_source_that_is_away_now_and_then() -> None:
    world = upgraded()
    world.edit(contextTokens=1024, accelerator={"count": 8, "resourceName": "nvidia.com/gpu"}).pass_()
    world.prepare_failed(FailureClass.HUB_UNREACHABLE, "It is not there.", "Wait.").pass_()
    assert world.condition("Planned")["status"] == "False"
    assert "can't be read anew: It is not there" in world.condition("ModelResolved")["message"]
    assert world.pass_() == [] and world.look().requeue_after is not None
    name = world.of("Job")[-1]["metadata"]["name"]
    assert world.wait(RETRY_SECONDS).pass_()[:2] == [f"-Job {name}", f"Job {name}"]


def test_an_image_of_the_earlier_release_is_asked_once() -> None:
    world = upgraded()
    world.edit(contextTokens=1024).pass_()
    world.prepared(Prepared.from_json(lacking())).pass_()
    world.rolled_out().pass_()
    assert world.condition("Ready")["status"] == "True" and world.pass_() == []


def test_what_an_earlier_release_read_for_a_plan_that_it_refused_is_read_anew_once() -> None:
    world = World().edit(accelerator={"count": 8, "resourceName": "nvidia.com/gpu"})
    world.pass_()
    world.prepared(Prepared.from_json(lacking())).pass_()
    first, second = world.of("Job")
    assert LESS in world.condition("ModelResolved")["message"] and world.pass_() == []
    world.prepared().pass_()
    assert world.of("Job") == [first, second] and world.pass_() == []
    world.edit(accelerator={"count": 0}).pass_()
    world.rolled_out().pass_()
    assert world.condition("Ready")["status"] == "True" and world.of("Job") == [first]


def test_a_source_that_is_away_is_asked_now_and_then_where_what_is_known_of_it_is_refused() -> None:
    world = World().served()
    world.edit(model={"uri": "hf://c/d"}).pass_()
    world.prepared(dataclasses.replace(PREPARED, revision="d0d0")).pass_()
    world.rolled_out().pass_()
    world.edit(model={"uri": "hf://a/b"}, accelerator={"count": 8, "resourceName": "nvidia.com/gpu"}).pass_()
    world.prepare_failed(FailureClass.HUB_UNREACHABLE, "It is not there.", "Wait.").pass_()
    assert world.condition("Planned")["status"] == "False"
    assert world.pass_() == []
    name = world.of("Job")[-1]["metadata"]["name"]
    assert world.wait(RETRY_SECONDS).pass_()[:2] == [f"-Job {name}", f"Job {name}"]


def job_arguments(world: World) -> list[str]:
    found: list[str] = world.of("Job")[-1]["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def read_for(engine: str, revision: str, file: str) -> Prepared:
    """What a Job reports of a repository that has safetensors and GGUF."""
    form = ModelFormat.GGUF if engine == "LlamaCpp" else ModelFormat.SAFETENSORS
    facts = dataclasses.replace(PREPARED.facts, format=form, files=(file,))
    architecture = "llama" if engine == "LlamaCpp" else "LlamaForCausalLM"
    facts = dataclasses.replace(facts, architecture=architecture, quantization=None, dtype="BF16")
    found: Prepared = dataclasses.replace(
        PREPARED, facts=facts, revision=revision, path=f"/cache/models/hf/a--b/{revision}"
    )
    return found


def both_engines() -> World:
    image = RuntimeImage("runtime:cpu", (EngineType.LLAMA_CPP, EngineType.TRANSFORMERS))
    return World(dataclasses.replace(CONFIG, images=(image,)))


def test_one_word_of_the_spec_switches_the_engine_at_the_same_content() -> None:
    world = both_engines()
    world.edit(engine={"type": "LlamaCpp"}).pass_()
    assert "--engine=LlamaCpp" in job_arguments(world)
    world.prepared(read_for("LlamaCpp", "c0ffee", "m.gguf")).pass_()
    world.rolled_out().pass_()
    first = world.get("Deployment")["spec"]["template"]
    world.edit(engine={"type": "Transformers"}).pass_()
    assert "--engine=Transformers" in job_arguments(world)
    assert "--revision=c0ffee" in job_arguments(world), "spec.model is what it was, so its content is"
    assert world.get("Deployment")["spec"]["template"] == first
    assert world.pass_() == [], "and it is asked once"
    world.prepared(read_for("Transformers", "c0ffee", "model.safetensors")).pass_()
    world.rolled_out().pass_()
    assert world.service["status"]["plan"]["engine"] == "Transformers"
    assert world.pass_() == []
    world.edit(engine={"type": "LlamaCpp"}).pass_()
    assert len(world.of("Job")) == 0, "the first plan is kept, and its content is still meant"
    assert world.get("Deployment")["spec"]["template"] == first


def test_an_engine_of_the_same_format_reads_nothing_again(world: World) -> None:
    world.edit(engine={"type": "LlamaCpp"}).served()
    jobs = len(world.of("Job"))
    world.edit(contextTokens=512).pass_()
    assert len(world.of("Job")) == jobs
    assert "--engine=LlamaCpp" in arguments(world), "every replica takes the files that were planned with"


def test_content_that_is_gone_is_read_as_it_is_now_for_another_engine() -> None:
    world = both_engines()
    world.edit(engine={"type": "LlamaCpp"}).served()
    world.edit(engine={"type": "Transformers"}).pass_()
    world.prepare_failed(FailureClass.MODEL_NOT_FOUND, "There is no c0ffee.", "Mend it.").pass_()
    assert not any(word.startswith("--revision") for word in job_arguments(world))
    assert world.pass_() == []
    world.prepared(read_for("Transformers", "beef", "model.safetensors")).pass_()
    world.rolled_out().pass_()
    assert plan_revision(world) == "beef"
    assert world.pass_() == []
