"""Adapters of a service: read by Jobs, told to replicas in a file, with room or with new replicas."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from core_world import PREPARED, World  # type: ignore[import-not-found]

from llmservice_api.adapters_told import AdapterTold, adapters_told
from llmservice_api.labels import ADAPTERS_SEEN
from llmservice_runtime.contract.adapters import AdapterState, parse_adapters, parse_tried
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.formats.lora import LoraFacts, LoraFormat, Target

Json = dict[str, Any]
FACTS = LoraFacts(LoraFormat.PEFT, "a/b", "", 8, (Target("q_proj", 4096, 4096),), 32, 1 << 20, ("x",), 1 << 20)
SQL = {"name": "sql", "uri": "hf://acme/sql"}
LAW = {"name": "law", "uri": "hf://acme/law"}
PRIVATE = {"name": "own", "uri": "hf://acme/own", "secretRef": {"name": "token"}}


class Adapted(World):  # type: ignore[misc]
    """With Jobs that read adapters, and replicas that load them."""

    def _job(self) -> Json:
        """The newest that is about the model."""
        *_, newest = (job for job in self.of("Job") if "-adapter-" not in job["metadata"]["name"])
        found: Json = newest
        return found

    def jobs(self) -> list[str]:
        found = [job["metadata"]["name"] for job in self.of("Job") if "-adapter-" in job["metadata"]["name"]]
        return sorted(found)

    def job_of(self, adapter: Json) -> Json:
        return next(job for job in self.of("Job") if f"--uri={adapter['uri']}" in self._arguments(job))

    def read(self, adapter: Json, facts: LoraFacts = FACTS, revision: str = "c1") -> Adapted:
        """Its Job is done."""
        message = json.dumps({"revision": revision, "path": "/x", "facts": json.loads(facts.to_json())})
        self._ended(adapter, {"exitCode": 0, "message": message}, "Complete")
        return self

    def unreadable(self, adapter: Json, failure: FailureClass, reason: str) -> Adapted:
        record = FailureRecord(failure, reason, "Mend it.", "Preparing").to_json()
        self._ended(adapter, {"exitCode": 1, "message": record}, "Failed")
        return self

    def _ended(self, adapter: Json, ended: Json, how: str) -> None:
        job = self.job_of(adapter)
        name = job["metadata"]["name"]
        labels = {**job["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
        status = {"containerStatuses": [{"name": "adapter", "state": {"terminated": ended}}]}
        metadata = {"name": f"{name}-1", "labels": labels, "creationTimestamp": self._stamp()}
        self.objects["Pod", f"{name}-1"] = {"kind": "Pod", "metadata": metadata, "spec": {}, "status": status}
        job["status"] = {
            "conditions": [{"type": how, "status": "True", "lastTransitionTime": self._stamp(), "message": "x"}]
        }

    def serve(self, *adapters: Json) -> Adapted:
        """It is planned, its adapters are read, and one replica is ready."""
        self.edit(adapters=list(adapters)).pass_()
        self.prepared()
        for adapter in adapters:
            self.read(adapter)
        self.pass_()
        self.ready("demo-1")
        return self

    def ready(self, name: str) -> Json:
        pod: Json = self.replica(name, ready=True, conditions=[{"type": "Ready", "status": "True"}])
        template = self.get("Deployment")["spec"]["template"]
        pod["metadata"]["uid"] = f"uid-{name}"
        pod["spec"]["volumes"] = template["spec"]["volumes"]
        self.get("Deployment")["status"] = {
            "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "observedGeneration": 99,
        }  # fmt: skip
        return pod

    def file(self) -> list[Json]:
        """What replicas read."""
        text = self.get("ConfigMap", "demo-adapters")["data"]["adapters.json"]
        return [dataclasses.asdict(adapter) for adapter in parse_adapters(text)]

    def tried(self) -> dict[str, str]:
        """Which pod loads an adapter before the others."""
        return parse_tried(self.get("ConfigMap", "demo-adapters")["data"]["adapters.json"])

    def entries(self) -> dict[str, Json]:
        return {entry["name"]: entry for entry in self.service["status"].get("adapters", ())}

    def revision(self) -> str:
        labels: Json = self.get("Deployment")["spec"]["template"]["metadata"]["labels"]
        return str(labels["llmservice.dev/revision"])

    @staticmethod
    def _arguments(job: Json) -> list[str]:
        found: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
        return found


def loaded(adapter: Json, state: AdapterState = AdapterState.LOADED, **more: str) -> AdapterTold:
    return AdapterTold(adapter["name"], adapter["uri"], "c1", state, **more)


def test_a_service_without_adapters_has_nothing_of_them() -> None:
    world = Adapted().serve()
    world.pass_()
    assert not world.of("ConfigMap") and "adapters" not in world.service["status"]
    assert "AdaptersReady" not in [entry["type"] for entry in world.service["status"]["conditions"]]
    assert "adapter" not in json.dumps(world.get("Deployment"))


def test_they_are_read_before_the_plan_and_told_to_replicas() -> None:
    world = Adapted()
    world.edit(adapters=[SQL, PRIVATE]).pass_()
    world.prepared().pass_()
    assert len(world.jobs()) == 2 and not world.of("Deployment"), "the plan is to have room for them"
    arguments = world._arguments(world.job_of(PRIVATE))
    assert "--inspect" in arguments and "--secret-folder=/secrets/token" in arguments
    world.read(SQL).read(PRIVATE, revision="c2").pass_()
    assert world.jobs() == [], "what was read is kept beside the file"
    assert world.file() == [
        {"name": "own", "uri": "hf://acme/own", "revision": "c2", "secret": "/secrets/token"},
        {"name": "sql", "uri": "hf://acme/sql", "revision": "c1", "secret": None},
    ]
    template = world.get("Deployment")["spec"]["template"]
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes["llmservice-adapters"]["configMap"] == {"name": "demo-adapters", "optional": True}
    mounts = {mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
    assert {"/etc/llmservice-adapters", "/secrets/token"} <= mounts
    settings = RuntimeSettings.from_json(template["metadata"]["annotations"]["llmservice.dev/settings"])
    assert settings.adapters_file == "/etc/llmservice-adapters/adapters.json" and settings.adapter_count >= 2
    pod = world.ready("demo-1")
    private = dataclasses.replace(loaded(PRIVATE), revision="c2")
    world.adapters = {pod["metadata"]["uid"]: (loaded(SQL), private)}
    world.pass_()
    assert world.entries()["sql"] == {
        "name": "sql", "state": "Loaded", "resolvedRevision": "c1", "loadedReplicas": 1,
    }  # fmt: skip
    assert world.condition("AdaptersReady")["status"] == "True"


def test_within_the_room_nothing_is_replaced() -> None:
    world = Adapted().serve(SQL)
    world.pass_()
    before = world.revision()
    for adapters in ([SQL, LAW], [LAW], [], [LAW, SQL, {"name": "b", "uri": "hf://acme/b", "revision": "v1"}]):
        world.edit(adapters=adapters).pass_()
        for adapter in adapters:
            if any(f"--uri={adapter['uri']}" in world._arguments(job) for job in world.of("Job")):
                world.read(adapter)
        world.pass_()
        assert [one["name"] for one in world.file()] == sorted(adapter["name"] for adapter in adapters)
        assert world.revision() == before
        assert world.condition("Ready")["status"] == "True"


def test_a_pod_is_told_to_look_once_for_each_file() -> None:
    world = Adapted().serve(SQL)
    pod = world.objects["Pod", "demo-1"]
    (poke,) = world.look().pokes
    assert (poke.pod, poke.uid, poke.annotation) == ("demo-1", "uid-demo-1", ADAPTERS_SEEN)
    pod["metadata"].setdefault("annotations", {})[poke.annotation] = poke.value
    assert not world.look().pokes
    world.edit(adapters=[])
    assert not world.look().pokes, "first what it is to look at"
    world.pass_()
    (other,) = world.look().pokes
    assert other.value != poke.value


@pytest.mark.parametrize("adapters", [[{**SQL, "name": f"a{n}", "uri": f"hf://acme/{n}"} for n in range(5)], [PRIVATE]])
def test_beyond_it_replicas_are_replaced_and_that_is_said_before(adapters: list[Json]) -> None:
    world = Adapted().serve(SQL)
    world.pass_()
    before = world.revision()
    world.edit(adapters=adapters).pass_()
    for adapter in adapters:
        world.read(adapter)
    world._write(world.look())  # the ConfigMap keeps what was read
    outcome = world.look()
    (said,) = [found for found in outcome.status["conditions"] if found["type"] == "AdaptersReady"]
    assert (said["status"], said["reason"]) == ("False", "AdaptersNeedRoom") and outcome.requeue_after <= 1
    assert any(note.reason == "AdaptersNeedRoom" for note in outcome.notes)
    deployment = next(desired for desired in outcome.apply if desired["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["llmservice.dev/revision"] == before, "it is said first"
    world.pass_()
    world.pass_()
    assert world.revision() != before and len(world.file()) == len(adapters)
    after = world.revision()
    world.edit(adapters=[SQL]).pass_()
    if any("-adapter-" in job["metadata"]["name"] for job in world.of("Job")):
        world.read(SQL)
    world.pass_()
    assert world.revision() == after, "room that is there is kept"


def test_more_than_any_plan_has_room_for_is_told_and_what_runs_goes_on() -> None:
    world = Adapted().serve(SQL)
    world.pass_()
    before = world.revision()
    many = [{"name": f"a{n}", "uri": f"hf://acme/{n}"} for n in range(40)]
    world.edit(adapters=[SQL, *many]).pass_()
    for _ in range(6):
        for adapter in many:
            if any(f"--uri={adapter['uri']}" in world._arguments(job) for job in world.of("Job")):
                world.read(adapter, dataclasses.replace(FACTS, rank=512))
        world.pass_()
    for _ in range(3):
        world.pass_()
    assert world.revision() == before and [one["name"] for one in world.file()] == ["sql"]
    found = world.condition("AdaptersReady")
    assert (found["status"], found["reason"]) == ("False", "DoesNotFit") and "GiB short" in found["message"]
    assert world.entries()["a0"]["state"] == "Failed" and world.condition("Ready")["status"] == "True"
    world.edit(adapters=[*many, SQL]).pass_()
    assert [one["name"] for one in world.file()] == ["sql"], "who is served keeps its place, wherever it stands"
    assert world.pass_() == [], "and that is all"
    world.edit(adapters=[SQL, LAW]).pass_()
    world.read(LAW).pass_()
    assert [one["name"] for one in world.file()] == ["law", "sql"] and world.revision() == before


def test_a_broken_one_is_named_and_stops_nothing_else() -> None:
    world = Adapted()
    world.edit(adapters=[SQL, LAW]).pass_()
    world.prepared().read(SQL).unreadable(LAW, FailureClass.MODEL_NOT_FOUND, "acme/law does not exist.").pass_()
    pod = world.ready("demo-1")
    world.adapters = {pod["metadata"]["uid"]: (loaded(SQL),)}
    world.pass_()
    assert [one["name"] for one in world.file()] == ["sql"]
    assert world.condition("Ready")["status"] == "True"
    found = world.condition("AdaptersReady")
    assert (found["status"], found["reason"]) == ("False", "ModelNotFound")
    assert "law" in found["message"] and "acme/law does not exist" in found["message"]
    assert (world.entries()["law"]["state"], world.entries()["sql"]["state"]) == ("Failed", "Loaded")
    world.wait(301).pass_()
    assert len(world.jobs()) == 1, "it is read again: a Secret may have been corrected, a file put there"
    world.pass_()
    world.read(LAW).pass_()
    assert [one["name"] for one in world.file()] == ["law", "sql"]


def test_a_foreign_one_is_named_and_not_loaded() -> None:
    world = Adapted()
    world.edit(adapters=[SQL, LAW]).pass_()
    foreign = dataclasses.replace(FACTS, base="acme/larger", layers=99)
    world.prepared().read(SQL).read(LAW, foreign).pass_()
    world.ready("demo-1")
    world.pass_()
    assert [one["name"] for one in world.file()] == ["sql"]
    assert "acme/larger" in world.condition("AdaptersReady")["message"]


def test_what_replicas_say_of_each_is_told() -> None:
    world = Adapted().serve(SQL)
    world.ready("demo-2")
    failed = loaded(SQL, AdapterState.FAILED, reason="ModelDamaged", message="Its header is cut.")
    other = AdapterTold("sql", "hf://acme/earlier", "c0", AdapterState.LOADED)
    before = AdapterTold("sql", SQL["uri"], "c0", AdapterState.LOADED)
    for first, second, state, count, reason in (
        ((), (), "Loading", 0, None),
        ((loaded(SQL, AdapterState.FETCHING),), (loaded(SQL),), "Loading", 1, None),
        ((loaded(SQL),), (loaded(SQL),), "Loaded", 2, None),
        ((loaded(SQL),), (failed,), "Loaded", 1, "ModelDamaged"),
        ((failed,), (failed,), "Failed", 0, "ModelDamaged"),
        ((other,), (loaded(SQL),), "Loading", 1, None),
        ((before,), (loaded(SQL),), "Loading", 1, None),
        ((dataclasses.replace(before, reason="DiskFull"),), (loaded(SQL),), "Loaded", 1, "DiskFull"),
    ):
        world.adapters = {"uid-demo-1": first, "uid-demo-2": second}
        world.pass_()
        entry = world.entries()["sql"]
        assert (entry["state"], entry["loadedReplicas"], entry.get("reason")) == (state, count, reason)
    world.adapters = {"uid-demo-1": (failed,), "uid-demo-2": (failed,)}
    world.pass_()
    found = world.condition("AdaptersReady")
    assert found["reason"] == "ModelDamaged" and "Its header is cut." in found["message"]
    assert world.pass_() == [], "nothing is written while nothing changes"


def with_a_new_one() -> Adapted:
    """Two replicas have SQL, and LAW has come."""
    world = Adapted().serve(SQL)
    world.ready("demo-2")
    world.adapters = {"uid-demo-1": (loaded(SQL),), "uid-demo-2": (loaded(SQL),)}
    world.pass_()
    assert world.tried() == {}, "what replicas started with is for all"
    world.edit(adapters=[SQL, LAW]).pass_()
    world.read(LAW).pass_()
    return world


def test_a_new_one_is_loaded_by_one_replica_and_then_by_all() -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    assert world.tried() == {"law": first} and world.entries()["law"]["state"] == "Loading"
    world.adapters |= {f"uid-{first}": (loaded(SQL), loaded(LAW, AdapterState.LOADING))}
    world.pass_()
    assert world.tried() == {"law": first}
    world.adapters |= {f"uid-{first}": (loaded(SQL), loaded(LAW))}
    world.pass_()
    assert world.tried() == {} and len(world.file()) == 2
    assert world.entries()["law"] | {"loadedReplicas": 1, "state": "Loading"} == world.entries()["law"]
    assert world.pass_() == []


def test_one_that_an_engine_dies_of_ends_one_replica_alone_and_is_named() -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    pod = world.objects["Pod", first]
    pod["status"]["conditions"][0]["status"] = "False"
    del world.adapters[f"uid-{first}"]
    world.pass_()
    assert world.tried() == {"law": first}, "it starts again, and says what it died of"
    pod["status"]["conditions"][0]["status"] = "True"
    died = loaded(LAW, AdapterState.FAILED, reason="Crashed", message="The engine died while it loaded this adapter.")
    world.adapters[f"uid-{first}"] = (loaded(SQL), died)
    world.pass_()
    assert world.tried() == {"law": first}
    found = world.condition("AdaptersReady")
    assert (found["status"], found["reason"]) == ("False", "Crashed") and found["message"].startswith("law: ")
    assert world.entries()["law"]["loadedReplicas"] == 0 and world.condition("Ready")["status"] == "True"
    assert world.pass_() == [], "nobody else is told"
    world.edit(adapters=[SQL]).pass_()
    assert world.tried() == {}


@pytest.mark.parametrize("reason", ["HubUnreachable", "UnsupportedFormat", "ModelDamaged", "OutOfMemory", ""])
def test_what_ends_no_engine_is_for_the_others_to_try_too(reason: str) -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    world.adapters[f"uid-{first}"] = (loaded(SQL), loaded(LAW, AdapterState.FAILED, reason=reason, message="No."))
    world.pass_()
    assert world.tried() == {}


def test_another_replica_tries_it_when_the_first_is_gone() -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    del world.objects["Pod", first]
    world.pass_()
    (second,) = world.tried().values()
    assert second != first
    del world.objects["Pod", second]
    world.pass_()
    assert world.tried() == {}, "nothing serves: whatever starts loads it"


def turned(world: Adapted, pod: str, ready: bool) -> None:
    """It becomes Ready now, or ceases to be."""
    (held,) = world.objects["Pod", pod]["status"]["conditions"]
    held |= {"status": "True" if ready else "False", "lastTransitionTime": world._stamp()}
    if not ready:
        world.adapters.pop(f"uid-{pod}", None)


def test_one_that_never_comes_back_from_it_is_named_and_nobody_else_is_told() -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    turned(world.wait(30), first, ready=False)
    world.pass_()
    world.wait(595).pass_()
    assert world.entries()["law"]["state"] == "Loading" and world.look().requeue_after <= 5
    world.wait(6).pass_()
    found = world.condition("AdaptersReady")
    assert (found["status"], found["reason"]) == ("False", "Crashed") and f"Replica {first} " in found["message"]
    assert world.tried() == {"law": first} and "take it away" in found["message"]
    assert world.pass_() == []
    turned(world, first, ready=True)
    world.adapters[f"uid-{first}"] = (loaded(SQL), loaded(LAW))
    world.pass_()
    assert world.tried() == {}, "it has come back after all"


def test_one_that_serves_on_and_can_t_be_asked_has_not_died_of_it() -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    world.pass_()
    world.adapters = {"uid-demo-1": (), "uid-demo-2": ()}  # asked in vain, as where others' policies keep us out
    for pod in ("demo-1", "demo-2"):
        world.objects["Pod", pod]["status"]["conditions"][0]["lastTransitionTime"] = "2025-12-31T00:00:00Z"
    world.wait(599).pass_()
    assert world.tried() == {"law": first} and world.look().requeue_after <= 1
    asked, world.adapters = world.adapters, {}
    world.wait(2).pass_()
    assert world.tried() == {"law": first}, "another operator has not asked yet"
    world.adapters = asked
    world.pass_()
    assert world.tried() == {} and len(world.file()) == 2


def test_one_that_fell_over_and_can_t_be_asked_is_named() -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    turned(world.wait(60), first, ready=True)
    world.adapters[f"uid-{first}"] = ()
    world.wait(590).pass_()
    assert world.tried() == {"law": first} and world.entries()["law"]["state"] == "Loading"
    world.wait(11).pass_()
    assert world.tried() == {"law": first} and world.entries()["law"]["reason"] == "Crashed"


@pytest.mark.parametrize("written", ['{"law": "2026-01-01T00:00:00"}', '{"law": "soon"}', "[]", "{"])
def test_times_that_somebody_wrote_into_the_map_break_no_pass(written: str) -> None:
    world = with_a_new_one()
    (first,) = world.tried().values()
    world.pass_()
    world.get("ConfigMap", "demo-adapters")["data"]["tried.json"] = written
    world.pass_()
    assert world.tried() == {"law": first} and world.entries()["law"]["state"] == "Loading"


def with_a_deadly_one() -> tuple[Adapted, str]:
    """Two replicas have SQL, and the engine of one has died of LAW."""
    world = with_a_new_one()
    (first,) = world.tried().values()
    died = loaded(LAW, AdapterState.FAILED, reason="Crashed", message="The engine died while it loaded this adapter.")
    world.adapters[f"uid-{first}"] = (loaded(SQL), died)
    world.pass_()
    return world, first


def test_what_an_engine_died_of_is_not_tried_again_when_its_replica_goes() -> None:
    world, first = with_a_deadly_one()
    before = world.entries()["law"]
    world.adapters = {}  # another operator
    world.pass_()
    for pod in (first, *{"demo-1", "demo-2"} - {first}):
        del world.objects["Pod", pod]
        world.pass_()
        assert world.tried() == {"law": first} and world.entries()["law"] == before
        assert world.condition("AdaptersReady")["reason"] == "Crashed"
    world.ready("demo-3")
    world.adapters = {"uid-demo-3": (loaded(SQL), loaded(LAW, AdapterState.PENDING))}
    world.pass_()
    assert world.tried() == {"law": first} and world.entries()["law"] == before, "it woke, and only fetches it"
    assert world.pass_() == []


@pytest.mark.parametrize("way", ["uri", "revision", "again"])
def test_another_one_is_tried_anew_and_the_same_one_when_it_comes_again(way: str) -> None:
    world, first = with_a_deadly_one()
    del world.objects["Pod", first]
    world.pass_()
    (left,) = {"demo-1", "demo-2"} - {first}
    if way == "again":
        world.edit(adapters=[SQL]).pass_()
        world.edit(adapters=[SQL, LAW]).pass_()
        if world.jobs():
            world.read(LAW).pass_()
    else:
        other = LAW | {way: "hf://acme/other" if way == "uri" else "v2"}
        world.edit(adapters=[SQL, other]).pass_()
        world.read(other, revision="c2").pass_()
    assert world.tried() == {"law": left} and world.entries()["law"]["state"] == "Loading"


@pytest.mark.parametrize("spec", [{"hostNetwork": True}, {"hostname": "fixed"}])
def test_replicas_that_do_not_know_their_names_load_it_together(spec: Json) -> None:
    world = Adapted().serve(SQL)
    world.objects["Pod", "demo-1"]["spec"] |= spec
    world.pass_()
    world.edit(adapters=[SQL, LAW]).pass_()
    world.read(LAW).pass_()
    assert world.tried() == {} and len(world.file()) == 2


@pytest.mark.parametrize("body", [{"adapters": 3}, {"adapters": [3]}, {"adapters": [{"name": 1}]}, {"adapters": [{}]}])
def test_what_is_no_report_is_none(body: Json) -> None:
    with pytest.raises(ValueError, match=r"tells of|AdapterState"):
        adapters_told(body)


def test_a_report_is_read() -> None:
    said = {"name": "sql", "uri": "hf://acme/sql", "revision": "c1", "state": "Failed", "reason": "DiskFull"}
    assert adapters_told({"adapters": [{**said, "message": "full\n"}]})[0].reason == "DiskFull"
    assert adapters_told({}) == ()


def test_the_models_facts_are_not_read_again_for_adapters() -> None:
    world = Adapted().serve(SQL)
    world.pass_()
    before = [job["metadata"]["name"] for job in world.of("Job")]
    world.edit(adapters=[PRIVATE]).pass_()
    assert [job["metadata"]["name"] for job in world.of("Job")] == [*before, *world.jobs()]
    assert PREPARED.revision == world.service["status"]["model"]["resolvedRevision"]
