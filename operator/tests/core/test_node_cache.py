"""A model kept in a directory of the node: who may, what pods are made of it, what status says when it can't be."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_world import CONFIG, FACTS, World  # type: ignore[import-not-found]

from llmservice_operator.children.container import RUNTIME_USER
from llmservice_operator.control.installation import read_installation
from llmservice_operator.facts.waiting import unclear
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord

LENT = "/var/lib/llmservice/models"
LENDING = dataclasses.replace(CONFIG, host_paths=("/srv/other", LENT))
ROOT = Path(__file__).resolve().parents[3]
Json = dict[str, Any]


def kept_in(path: str) -> Json:
    return {"type": "HostPath", "hostPath": {"path": path}}


@pytest.fixture
def world() -> World:
    return World(LENDING).edit(cache=kept_in(LENT), replicas=2)


def template(world: World) -> Json:
    found: Json = copy.deepcopy(world.get("Deployment")["spec"]["template"])
    return found


def test_replicas_fill_the_directory_of_their_node_and_engines_only_read_it(world: World) -> None:
    world.served()
    pod = template(world)["spec"]
    directory = {"name": "cache", "hostPath": {"path": LENT, "type": "Directory"}}
    assert [volume for volume in pod["volumes"] if volume["name"] == "cache"] == [directory]
    (fetch,), (engine,) = pod["initContainers"], pod["containers"]
    mount = {"name": "cache", "mountPath": "/cache"}
    assert mount in fetch["volumeMounts"] and "--fetch" in fetch["args"]
    assert {**mount, "readOnly": True} in engine["volumeMounts"]
    assert world.of("PersistentVolumeClaim") == []
    (inspection,) = world.of("Job")
    volumes = inspection["spec"]["template"]["spec"]["volumes"]
    assert {"name": "cache", "emptyDir": {}} in volumes, "reading headers leaves nothing on a node"
    assert "nodeName" not in pod and "affinity" not in pod, "a replica may move: another node gets its own copy"


def test_a_full_directory_loses_what_nobody_uses_unless_it_is_to_keep_all(world: World) -> None:
    world.served()
    (fetch,) = template(world)["spec"]["initContainers"]
    assert "--make-room" in fetch["args"]
    assert not any(word.startswith("--service") for word in fetch["args"]), "a replica that starts brings it again"
    world.edit(cache={**kept_in(LENT), "prune": "Never"}).served()
    (fetch,) = template(world)["spec"]["initContainers"]
    assert "--make-room" not in fetch["args"]
    (fetch,) = template(World().served())["spec"]["initContainers"]
    assert "--make-room" not in fetch["args"], "what is the pod's own has nothing else in it"


def test_a_replica_has_time_for_its_own_download(world: World) -> None:
    world.served()
    own = world.get("Deployment")["spec"]["progressDeadlineSeconds"]
    empty = World().served().get("Deployment")["spec"]["progressDeadlineSeconds"]
    assert own == empty > FACTS.file_bytes / (5 << 20)


def test_status_says_where_models_are_kept(world: World) -> None:
    world.pass_()
    world.prepared().pass_()
    before = world.condition("Cached")
    world.rolled_out()
    for pod in world.of("Pod"):
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    world.pass_()
    after = world.condition("Cached")
    assert [(found["status"], found["reason"]) for found in (before, after)] == [
        ("False", "PerNode"),
        ("True", "PerNode"),
    ]
    assert after["message"] == (
        f"Each node keeps the model in {LENT}; a replica downloads it where it is not there yet."
    )
    assert {note.type for note in world.notes} == {"Normal"}
    assert world.pass_() == []


@pytest.mark.parametrize(
    "path", [f"{LENT}/below", "/var/lib/llmservice", f"{LENT}2", "/var/lib/llmservice/./models", "/", "/etc"]
)
def test_another_directory_is_refused_until_it_is_lent_and_what_runs_stays(world: World, path: str) -> None:
    world.served()
    before = template(world)
    assert world.edit(cache=kept_in(path)).pass_() == ["status"]
    found = world.condition("SpecValid")
    assert (found["status"], found["reason"]) == ("False", "Invalid")
    assert "spec.cache.hostPath.path" in found["message"]
    assert template(world) == before
    assert world.condition("Ready")["reason"] == "ServingEarlierSpec"
    assert world.look().requeue_after is None, "terminal until it is edited"


def test_a_refusal_names_what_is_lent_and_what_to_do(world: World) -> None:
    world.edit(cache=kept_in("/data")).pass_()
    message = world.condition("SpecValid")["message"]
    assert f"It lends /srv/other, {LENT}." in message and "runtime.hostPaths" in message
    world.config = CONFIG
    world.pass_()
    assert "It lends none." in world.condition("SpecValid")["message"]
    assert world.of("Job") == []
    world.config = dataclasses.replace(CONFIG, host_paths=("/data",))
    world.pass_()
    assert world.condition("SpecValid")["status"] == "True"


def test_a_pod_template_borrows_no_other_directory_either(world: World) -> None:
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "node", "hostPath": {"path": "/"}}]
    world.edit(podTemplate={"spec": {"volumes": volumes}}).pass_()
    message = world.condition("SpecValid")["message"]
    assert message.startswith("spec.podTemplate.spec.volumes[node].hostPath.path: / is no directory")
    volumes[1]["hostPath"]["path"] = "/srv/other"  # type: ignore[index]
    world.edit(podTemplate={"spec": {"volumes": volumes}}).served()
    assert volumes[1] in template(world)["spec"]["volumes"]


def test_another_kind_of_cache_rolls_out_without_another_look_at_the_model(world: World) -> None:
    world.edit(cache={"type": "EmptyDir"}).served()
    before = template(world)
    assert [name.split()[0] for name in world.edit(cache=kept_in(LENT)).pass_()] == [
        "ControllerRevision",
        "Deployment",
        "status",
    ]
    assert template(world)["metadata"]["labels"] != before["metadata"]["labels"]
    world.edit(cache={"type": "EmptyDir"}).pass_()
    assert template(world) == before


def test_a_directory_that_a_node_does_not_have_is_said_with_the_command(world: World) -> None:
    world.served()
    world.edit(contextTokens=1024).pass_()
    pod = creating(world)
    assert unclear([pod]) == ("p-1",)
    said = f'MountVolume.SetUp failed for volume "cache" : hostPath type check failed: {LENT} is not a directory'
    world.events = (
        {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "uid": "p-1"},
            "reason": "FailedMount",
            "message": said,
            "lastTimestamp": pod["status"]["startTime"],
        },
    )
    world.wait(60).pass_()
    found = world.condition("Progressing")
    assert found["reason"] == "VolumeFailed"
    assert f"The node n1 has no directory {LENT}" in found["message"]
    assert f"mkdir -p {LENT} && chown 65532 {LENT}" in found["message"]
    pod["spec"]["securityContext"]["runAsUser"] = 1000
    world.pass_()
    assert "chown 1000" in world.condition("Progressing")["message"]


def creating(world: World) -> Json:
    """A new replica whose volumes are not mounted, as a kubelet shows it."""
    pod: Json = world.replica("demo-new")
    pod["metadata"]["uid"] = "p-1"
    pod["spec"] = {**template(world)["spec"], "nodeName": "n1"}
    waiting = {"ready": False, "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}
    pod["status"] = {
        "phase": "Pending",
        "startTime": world.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "conditions": [{"type": "PodReadyToStartContainers", "status": "False"}],
        "initContainerStatuses": [{"name": "fetch", "image": "runtime:cpu", **waiting}],
        "containerStatuses": [{"name": "runtime", "image": "runtime:cpu", **waiting}],
    }
    return pod


@pytest.mark.parametrize("failure", [FailureClass.VOLUME_FAILED, FailureClass.DISK_FULL])
def test_what_a_download_says_of_its_disk_names_directory_and_node(world: World, failure: FailureClass) -> None:
    world.pass_()
    world.prepared().pass_()
    pod = creating(world)
    record = FailureRecord(failure, "/cache/models can't be written.", "Mend it.", "Preparing").to_json()
    ended = {"exitCode": 1, "reason": "Error", "message": record}
    pod["status"]["conditions"] = [{"type": "PodReadyToStartContainers", "status": "True"}]
    pod["status"]["initContainerStatuses"][0]["state"] = {"terminated": ended}
    world.pass_()
    found = world.condition("Ready")
    assert found["reason"] == failure.value
    assert found["message"] == f"/cache/models can't be written. Mend it. /cache is {LENT} of the node n1."


def test_the_user_that_is_named_is_the_images() -> None:
    assert f"\nUSER {RUNTIME_USER}:" in (ROOT / "runtime/Dockerfile").read_text()


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["/data", "/data/models"], "/data/models lies below /data"),
        (["/data/../etc"], "goes through '.' or '..'"),
        (["data"], "hostPaths.0"),
        (["/"], "hostPaths.0"),
    ],
)
def test_an_installation_lends_no_directory_within_another(tmp_path: Path, paths: list[str], said: str) -> None:
    file = tmp_path / "installation.yaml"
    entry = {"images": [{"image": "r:1", "engines": ["LlamaCpp"]}]}
    file.write_text(yaml.safe_dump({**entry, "hostPaths": ["/data", "/data2"]}))
    assert read_installation(file).operator_config("llm").host_paths == ("/data", "/data2")
    file.write_text(yaml.safe_dump({**entry, "hostPaths": paths}))
    with pytest.raises(UserError, match="hostPaths") as caught:
        read_installation(file)
    assert said in caught.value.reason
