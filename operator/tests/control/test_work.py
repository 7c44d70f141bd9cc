"""The loop around a small core of its own, against a server whose faults are at hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_kube import mirror
from llmservice_kube.client import WRITES, Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import DEPLOYMENT, EVENT, LLM_SERVICE, NODE, POD, SERVICE, Json, Kind
from llmservice_operator.control import main, nodes, source
from llmservice_operator.control import work as work_module
from llmservice_operator.control.health import Health
from llmservice_operator.control.installation import Installation
from llmservice_operator.control.passes import StillRefused
from llmservice_operator.control.work import ROUNDS, SOON_SECONDS, TOGETHER_SECONDS, Scope, Work
from llmservice_operator.facts.config import OperatorConfig, RuntimeImage
from llmservice_operator.facts.values import NAME_CONFLICT, Delete, Note, Observed, Outcome
from llmservice_runtime.contract.engines import EngineType

CONFIG = OperatorConfig((RuntimeImage("runtime:1", (EngineType.LLAMA_CPP,)),), "llm-system")


def child(kind: Kind, service: Json, spec: Json) -> Json:
    metadata = service["metadata"]
    owner = {"apiVersion": service["apiVersion"], "kind": service["kind"], "name": metadata["name"]}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {"llmservice.dev/name": metadata["name"]},
            "ownerReferences": [owner | {"uid": metadata["uid"], "controller": True}],
        },
        "spec": spec,
    }


def decide(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
    """Two children, `spec.extra` says whether there is the second; the status counts them."""
    service = observed.service
    extra = service["spec"].get("extra", True)
    wanted = [child(DEPLOYMENT, service, {"size": service["spec"].get("size", 1)})]
    wanted += [child(SERVICE, service, {"port": 80})] if extra else []
    gone = [] if extra else [obj for obj in observed.children if obj["kind"] == "Service"]
    status = {"children": len(observed.children), "refused": sorted(r.reason for r in observed.refused)}
    return Outcome(
        apply=tuple(wanted),
        delete=tuple(Delete("v1", "Service", obj["metadata"]["name"], obj["metadata"]["uid"]) for obj in gone),
        status=status,
        notes=(Note("Normal", "Counted", str(status)),) if service.get("status") != status else (),
    )


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def working(api: FakeApi) -> AsyncIterator[Work]:
    """A Work whose loops do not run: tests call `relist` and `reconcile` themselves."""
    async with Client(api.access, sleep=no_sleep) as client:
        yield Work(api.access, client, CONFIG, Scope(), Health(1e9), decide)


async def settled(work: Work, key: tuple[str, str]) -> float | None:
    """Passes until one reports, as the queue would have them."""
    while (again := await work.reconcile(key)) == TOGETHER_SECONDS:
        continue
    return again


def writes(work: Work) -> dict[tuple[str, str], int]:
    return {key: count for key, count in work.client.counts.items() if key[0] in WRITES}


def make(api: FakeApi, name: str = "qwen", **spec: object) -> tuple[str, str]:
    api.put({"metadata": {"name": name, "namespace": "apps"}, "spec": spec})
    return "apps", name


async def test_one_pass_makes_everything_and_the_next_writes_nothing(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        assert {kind.kind for kind, _, _ in api.objects} == {"LLMService", "Deployment", "Service", "Event"}
        assert api.objects[LLM_SERVICE, *key]["status"] == {"children": 2, "refused": []}
        first = writes(work)
        await work.relist()
        await settled(work, key)
        assert writes(work) == first
    async with working(api) as restarted:
        await restarted.relist()
        await settled(restarted, key)
        assert writes(restarted) == {}


async def test_a_pass_that_writes_children_leaves_the_report_to_the_next(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        assert await work.reconcile(key) == TOGETHER_SECONDS
        assert "status" not in api.objects[LLM_SERVICE, *key]
        assert await work.reconcile(key) is None
        assert api.objects[LLM_SERVICE, *key]["status"] == {"children": 2, "refused": []}
        assert writes(work)["apply_status", "LLMService"] == 1


async def test_a_service_whose_children_are_undone_for_ever_is_reported_all_the_same(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        for _ in range(ROUNDS):
            await work.relist()
            again = await work.reconcile(key)
            taken = api.objects[DEPLOYMENT, *key]
            api.put({**taken, "metadata": {**taken["metadata"], "managedFields": []}}, DEPLOYMENT)
        assert again == SOON_SECONDS
        assert api.objects[LLM_SERVICE, *key]["status"]["children"] == 2


async def test_a_changed_spec_writes_only_what_differs(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        api.put({**api.objects[LLM_SERVICE, *key], "spec": {"size": 2}})
        before = writes(work)
        await work.relist()
        await settled(work, key)
        assert api.objects[DEPLOYMENT, *key]["spec"] == {"size": 2}
        assert {k: n - before[k] for k, n in writes(work).items() if n != before[k]} == {("apply", "Deployment"): 1}


async def test_a_field_that_someone_took_is_taken_back_and_others_are_left(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        taken = api.objects[DEPLOYMENT, *key]
        fields = [
            {**entry, "fieldsV1": {**entry["fieldsV1"], "f:spec": {"f:other": {}}}}
            for entry in taken["metadata"]["managedFields"]
        ]
        meta = {**taken["metadata"], "managedFields": fields}
        api.put({**taken, "metadata": meta, "spec": {"size": 99}, "foreign": {"kept": True}}, DEPLOYMENT)
        await work.relist()
        await settled(work, key)
        assert api.objects[DEPLOYMENT, *key]["spec"] == {"size": 1}
        assert api.objects[DEPLOYMENT, *key]["foreign"] == {"kept": True}


async def test_an_object_of_somebody_else_is_not_touched_and_status_says_so(api: FakeApi) -> None:
    key = make(api)
    foreign = api.put({"metadata": {"name": "qwen", "namespace": "apps"}, "spec": {"port": 1}}, SERVICE)
    async with working(api) as work:
        await work.relist()
        with pytest.raises(StillRefused):
            await settled(work, key)
        assert api.objects[SERVICE, *key] == foreign
        assert api.objects[DEPLOYMENT, *key]["spec"] == {"size": 1}
        assert api.objects[LLM_SERVICE, *key]["status"]["refused"] == [NAME_CONFLICT]
        api.remove(SERVICE, *key)
        await settled(work, key)
        assert api.objects[LLM_SERVICE, *key]["status"]["refused"] == []


async def test_a_refused_write_is_a_status_not_an_error(api: FakeApi) -> None:
    key = make(api)
    quota = True

    def full(method: str, path: str) -> object:
        return refusal(403, "Forbidden") if quota and method == "PATCH" and "deployments" in path else None

    api.fault = full
    async with working(api) as work:
        await work.relist()
        with pytest.raises(StillRefused):
            await settled(work, key)
        assert api.objects[LLM_SERVICE, *key]["status"] == {"children": 1, "refused": ["Forbidden"]}
        quota = False
        await settled(work, key)
        assert api.objects[LLM_SERVICE, *key]["status"] == {"children": 2, "refused": []}


async def test_what_is_wrong_in_itself_is_not_sent_again_before_the_edit(api: FakeApi) -> None:
    key, sent = make(api), list[str]()

    def invalid(method: str, path: str) -> object:
        if method != "PATCH" or "deployments" not in path:
            return None
        sent.append(path)
        return refusal(422, "Invalid")

    api.fault = invalid
    async with working(api) as work:
        await work.relist()
        for _ in range(3):
            assert await settled(work, key) is None  # not StillRefused: no backoff, no other try
        assert len(sent) == 1
        assert api.objects[LLM_SERVICE, *key]["status"] == {"children": 1, "refused": ["Invalid"]}
        api.put({**api.objects[LLM_SERVICE, *key], "spec": {"size": 2}})
        await work.relist()
        await settled(work, key)
        assert len(sent) == 2
        api.fault = lambda method, path: None
        api.put({**api.objects[LLM_SERVICE, *key], "spec": {"size": 3}})
        await work.relist()
        await settled(work, key)
        assert api.objects[DEPLOYMENT, *key]["spec"] == {"size": 3}
        assert api.objects[LLM_SERVICE, *key]["status"] == {"children": 2, "refused": []}


async def test_a_pass_that_fails_by_a_bug_says_so_in_that_services_status_until_one_succeeds(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = make(api, "bad"), make(api, "good")
    broken = True

    def buggy(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
        if broken and observed.service["metadata"]["name"] == "bad":
            raise KeyError("allocatable")
        return decide(observed, config, now)

    async with Client(api.access, sleep=no_sleep) as client:
        work = Work(api.access, client, CONFIG, Scope(), Health(1e9), buggy)
        await work.relist()
        for _ in range(3):
            for key in (bad, good):
                await work.passes.one(key)
        ready = next(c for c in api.objects[LLM_SERVICE, *bad]["status"]["conditions"] if c["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "InternalError")
        assert "KeyError: 'allocatable'" in ready["message"]
        assert work.passes.results["bug"] == 3 and work.ready[bad] is False
        assert api.objects[LLM_SERVICE, *good]["status"] == {"children": 2, "refused": []}
        assert writes(work)["apply_status", "LLMService"] == 2  # once for each
        assert "KeyError" in caplog.text and "Traceback" in caplog.text
        broken = False
        for _ in range(2):
            await work.passes.one(bad)
        assert api.objects[LLM_SERVICE, *bad]["status"] == {"children": 2, "refused": []}


async def test_a_pass_in_which_something_is_cancelled_is_a_bug_and_its_service_is_looked_at_again(
    api: FakeApi,
) -> None:
    key, broken = make(api), True

    def odd(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
        if broken:
            raise asyncio.CancelledError
        return decide(observed, config, now)

    async with Client(api.access, sleep=no_sleep) as client:
        work = Work(api.access, client, CONFIG, Scope(), Health(1e9), odd)
        await work.relist()
        assert work.passes.queue.take(time.monotonic()) == key
        await work.passes.one(key)
        assert work.passes.results["bug"] == 1
        broken = False
        assert work.passes.queue.take(time.monotonic() + 1000) == key


@pytest.mark.parametrize("how", ["fails", "hangs", "is refused"])
async def test_events_that_cant_be_listed_stop_no_service(
    api: FakeApi, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "EVENTS_SECONDS", 0.3)
    key = make(api)
    asked = 0

    def broken(method: str, path: str) -> object:
        nonlocal asked
        if method != "GET" or not path.endswith("/events"):
            return None
        asked += 1
        return refusal(403 if how == "is refused" else 500)

    api.fault = broken
    pod = child(POD, api.objects[LLM_SERVICE, *key], {})
    api.put({**pod, "status": {"phase": "Pending"}}, POD)

    async def sleep(seconds: float) -> None:
        await (asyncio.Event().wait() if how == "hangs" else asyncio.sleep(0))

    async with Client(api.access, sleep=sleep) as client:
        work = Work(api.access, client, CONFIG, Scope(), Health(1e9), decide)
        await work.relist()
        await work.reconcile(key)
        assert asked >= 1 and (SERVICE, *key) in api.objects


async def test_a_status_that_the_server_calls_invalid_is_a_bug_that_is_told(api: FakeApi) -> None:
    key = make(api)
    sent = 0

    def invalid(method: str, path: str) -> object:
        nonlocal sent
        sent += path.endswith("/status")
        return refusal(422, "Invalid") if path.endswith("/status") and sent == 1 else None

    api.fault = invalid
    async with working(api) as work:
        await work.relist()
        for _ in range(2):
            await work.passes.one(key)
        said = str(api.objects[LLM_SERVICE, *key]["status"])
        assert "InternalError" in said and "422 Invalid" in said


async def test_a_service_too_large_for_its_status_is_told_once_in_an_event(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    key, sent = make(api), list[str]()

    def full(method: str, path: str) -> object:
        if not path.endswith("/status"):
            return None
        sent.append(path)
        return refusal(500, "InternalError", message="etcdserver: request is too large")

    api.fault = full
    async with working(api) as work:
        await work.relist()
        for _ in range(3):
            await work.passes.one(key)
            await work.passes.one(key)
        said = [obj["message"] for (kind, _, _), obj in api.objects.items() if kind == EVENT]
        told = [message for message in said if "so large that its status can't be written" in message]
        assert len(told) == 1 and "Make its spec or its annotations smaller." in told[0]
        assert sum("so large" in record.message for record in caplog.records) == 1
        assert work.passes.results["bug"] == work.passes.results["error"] == 0
        assert len(sent) <= 6, "no repetition within a pass"


async def test_a_missing_right_to_delete_is_told_in_status(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        api.put({**api.objects[LLM_SERVICE, *key], "spec": {"extra": False}})
        api.fault = lambda method, path: refusal(403, "Forbidden") if method == "DELETE" else None
        await work.relist()
        with pytest.raises(StillRefused):
            await settled(work, key)
        assert api.objects[LLM_SERVICE, *key]["status"]["refused"] == ["Forbidden"]
        api.fault = lambda method, path: None
        await settled(work, key)
        await work.relist()
        await settled(work, key)
        assert api.objects[LLM_SERVICE, *key]["status"] == {"children": 1, "refused": []}


async def test_a_new_node_is_seen_soon_while_a_service_lacks_one_and_only_then(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "LOOK_SECONDS", 0.01)
    seen = asyncio.Event()
    async with Client(api.access, sleep=no_sleep) as client:
        found = nodes.Nodes(client, seen.set)
        looking = asyncio.create_task(found.run())
        await seen.wait()  # they are read once in any case
        seen.clear()
        await asyncio.sleep(0.1)
        assert len(api.requests) == 1
        found.told(("apps", "a"), {"conditions": [{"type": "Planned", "status": "False"}]})
        api.put({"metadata": {"name": "gpu"}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}}, NODE)
        async with asyncio.timeout(10):
            await seen.wait()
        assert found.kinds is not None
        assert [kind.resources for kind in found.kinds] == [(("nvidia.com/gpu", 1),)]
        found.told(("apps", "a"), {"conditions": [{"type": "Planned", "status": "True"}]})
        await asyncio.sleep(0.1)
        asked = len(api.requests)
        await asyncio.sleep(0.1)
        assert len(api.requests) == asked
        looking.cancel()
        await asyncio.wait([looking])


async def test_a_crash_after_any_write_leads_to_the_same_end(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        total = sum(writes(work).values())
        calm = {kind.kind: obj.get("spec") for (kind, _, _), obj in api.objects.items() if kind != EVENT}
    for survived in range(total):
        async with fake_api() as other:
            make(other)
            left = survived

            def crash(method: str, path: str) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise ConnectionAbortedError

            async with working(other) as dying:
                await dying.relist()
                other.after_write = crash
                with pytest.raises(ApiError):
                    await settled(dying, key)
                    raise ApiError("Events are no reason to fail", 0, "", "")
            other.after_write = lambda method, path: None
            async with working(other) as next_life:
                await next_life.relist()
                await settled(next_life, key)
                again = writes(next_life)
                await settled(next_life, key)
                assert writes(next_life) == again
            assert {kind.kind: obj.get("spec") for (kind, _, _), obj in other.objects.items() if kind != EVENT} == calm


async def test_nothing_is_deleted_on_the_word_of_the_cache(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        api.put({**api.objects[LLM_SERVICE, *key], "spec": {"extra": False}})
        await work.relist()
        api.remove(SERVICE, *key)
        other = api.put({"metadata": {"name": "qwen", "namespace": "apps"}, "spec": {"port": 1}}, SERVICE)
        await settled(work, key)
        assert api.objects[SERVICE, *key] == other
        assert ("delete", "Service") not in writes(work)


async def test_a_service_made_anew_gets_none_of_the_old_ones_deletions(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        api.put({**api.objects[LLM_SERVICE, *key], "spec": {"extra": False}})
        await work.relist()
        api.remove(LLM_SERVICE, *key)
        make(api)
        await settled(work, key)
        assert (SERVICE, *key) in api.objects


async def test_a_ghost_is_not_worked_on(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        api.remove(LLM_SERVICE, *key)
        await work.relist()
        assert await settled(work, key) is None
        assert writes(work) == {}


async def test_what_was_deleted_while_a_list_was_read_is_not_made_anew(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        service = api.objects[LLM_SERVICE, *key]

        def delete(method: str, path: str) -> None:
            """The list of services is on its way when the watch tells of the deletion."""
            if path.endswith("/llmservices") and (LLM_SERVICE, *key) in api.objects:
                asyncio.get_running_loop().call_soon(work._event, LLM_SERVICE, "DELETED", gone)
                for kind in (LLM_SERVICE, DEPLOYMENT, SERVICE):
                    api.remove(kind, *key)

        gone = {**service, "metadata": {**service["metadata"], "resourceVersion": str(api.version + 1)}}
        api.after_read = delete
        await work.relist()
        assert work.cache.services() == []
        assert await work.reconcile(key) is None
        assert (DEPLOYMENT, *key) not in api.objects


async def test_of_a_service_that_is_gone_nothing_is_remembered_however_that_became_known(api: FakeApi) -> None:
    api.fault = lambda method, path: refusal(422, "Invalid") if method == "PATCH" and "deployments" in path else None
    key = make(api)
    async with working(api) as work:
        await work.relist()
        await settled(work, key)
        assert len(work._ledger) == 1
        api.remove(LLM_SERVICE, *key)
        await work.relist()  # no event told
        assert len(work._ledger) == 0


async def test_what_a_pass_remembers_of_a_service_that_went_meanwhile_is_forgotten(api: FakeApi) -> None:
    key = make(api)
    async with working(api) as work:
        await work.relist()
        service = api.objects[LLM_SERVICE, *key]

        def refuse(method: str, path: str) -> object:
            if method != "PATCH" or "/services/" not in path:
                return None
            version = str(int(service["metadata"]["resourceVersion"]) + 50)
            work._event(
                LLM_SERVICE,
                "DELETED",
                {**service, "metadata": {**service["metadata"], "resourceVersion": version}},
            )
            return refusal(422, "Invalid")

        api.fault = refuse
        assert work.passes.queue.take(time.monotonic()) == key
        await work.passes.one(key)
        api.remove(LLM_SERVICE, *key)
        await work.relist()
        assert len(work._ledger) == 0


async def test_nothing_is_planned_before_the_nodes_were_read(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "RETRY_SECONDS", 0.05)
    api.put({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "8", "memory": "32Gi"}}}, NODE)
    broken, seen = True, list[object]()
    api.fault = lambda method, path: refusal(500) if broken and path.endswith("/nodes") else None

    def look(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
        seen.append(observed.nodes)
        return decide(observed, config, now)

    make(api)
    async with Client(api.access, sleep=no_sleep) as client:
        work = Work(api.access, client, CONFIG, Scope(nodes=True), Health(1e9), look)
        task = asyncio.create_task(work.run())
        await until(lambda: work.cache.complete and ("GET", "/api/v1/nodes") in api.requests)
        assert len(work.passes.queue) == 1 and not work.informed
        asked = api.requests.count(("GET", "/api/v1/nodes"))
        await until(lambda: api.requests.count(("GET", "/api/v1/nodes")) > asked + 10)
        assert seen == []
        broken = False
        await until(lambda: len(seen) > 0)
        assert None not in seen
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("may", [True, False])
async def test_nodes_that_may_not_be_read_hold_nothing_up(
    api: FakeApi, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(nodes, "PATIENCE_SECONDS", 0.2)
    api.fault = lambda method, path: refusal(403, "Forbidden") if path.endswith("/nodes") else None
    key, health = make(api), Health(1e9)
    async with Client(api.access, sleep=no_sleep) as client:
        work = Work(api.access, client, CONFIG, Scope(nodes=may), health, decide)
        task = asyncio.create_task(work.run())
        await until(lambda: (SERVICE, *key) in api.objects)
        assert ("/nodes: 403 Forbidden" in health.problems.get("nodes", "")) == may
        task.cancel()
        await asyncio.wait([task])


async def test_nodes_that_are_refused_for_a_while_are_known_all_the_same(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that has just begun does not know its roles yet; a plan that was made of that would be frozen."""
    monkeypatch.setattr(nodes, "RETRY_SECONDS", 0.01)
    api.put({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "8", "memory": "32Gi"}}}, NODE)
    answers: list[object] = []
    api.fault = lambda method, path: answers.pop() if path.endswith("/nodes") and answers else None
    told: list[ApiError | None] = []
    now = 0.0
    async with Client(api.access, sleep=no_sleep) as client:
        found = nodes.Nodes(client, lambda: None, failed=told.append, clock=lambda: now)
        for _ in range(2):  # as it begins, and later
            answers[:] = [refusal(403, "Forbidden") for _ in range(5)]
            told.clear()
            await found.read()
            assert answers == [] and found.known
            assert found.kinds is not None and len(found.kinds) == 1
            assert [error is not None for error in told] == [True] * 5 + [False]
        answers[:] = [refusal(403, "Forbidden") for _ in range(50)]
        reading = asyncio.create_task(found.read())
        await until(lambda: len(answers) < 48)
        assert found.kinds is not None, "what was known counts"
        now = nodes.PATIENCE_SECONDS
        await reading
        assert found.kinds is None, "they may not be read any longer"


async def test_the_last_service_that_went_in_a_gap_of_the_watches_is_forgotten_at_once(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf's new list is empty, so it makes no event."""
    monkeypatch.setattr(mirror, "GAP_SECONDS", 0.05)
    monkeypatch.setattr(source, "LONGEST_PAUSE", 0.05)
    key = make(api)
    async with running(api) as work:
        await until(lambda: (SERVICE, *key) in api.objects)
        await until(lambda: len(api.watchers) == len(work_module.KINDS))
        api.mute_watches = True
        for kind, namespace, name in list(api.objects):
            api.remove(kind, namespace, name)
        api.compact()
        api.mute_watches = False
        api.hang_up()
        await until(lambda: work.cache.services() == [])
        assert (SERVICE, *key) not in api.objects


async def test_an_object_that_cannot_be_read_costs_nobody_but_itself(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    """In a list, in a watch, and among the nodes."""
    bad, good = make(api, "bad"), make(api, "good")
    api.objects[LLM_SERVICE, *bad]["metadata"]["resourceVersion"] = "odd"
    api.put({"metadata": {"name": "odd"}, "status": {"allocatable": {"cpu": "lots"}}}, NODE)
    api.put({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "8", "memory": "32Gi"}}}, NODE)
    async with Client(api.access, sleep=no_sleep) as client:
        work = Work(api.access, client, CONFIG, Scope(nodes=True), Health(1e9), decide)
        for _ in range(2):
            await work.relist()
            work._event(LLM_SERVICE, "MODIFIED", api.objects[LLM_SERVICE, *bad])
        assert work.cache.services() == [good]
        assert work._nodes.kinds is not None and len(work._nodes.kinds) == 1
        assert work.cache.unreadable.counts == {"LLMService": 1, "Node": 1}
    told = [record.getMessage() for record in caplog.records if "can't be read" in record.getMessage()]
    assert [text.split(" can't")[0] for text in told] == ["LLMService apps/bad", "Node odd"]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the server and the loop under test are seen from outside
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(api: FakeApi) -> AsyncIterator[Work]:
    async with working(api) as work:
        task = asyncio.create_task(work.run())
        try:
            yield work
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_the_loop_follows_events_and_one_bad_service_holds_up_no_other(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "LONGEST_PAUSE", 0.05)
    api.fault = lambda method, path: refusal(500) if "deployments/bad" in path else None
    make(api, "bad")
    async with running(api) as work:
        key = make(api, "good")
        await until(lambda: (SERVICE, *key) in api.objects)
        api.remove(SERVICE, *key)
        await until(lambda: (SERVICE, *key) in api.objects)
        api.put({**api.objects[LLM_SERVICE, *key], "spec": {"size": 3}})
        await until(lambda: api.objects[DEPLOYMENT, *key]["spec"] == {"size": 3})
        assert work.passes.results["error"] >= 1
        api.fault = lambda method, path: None
        await until(lambda: (SERVICE, "apps", "bad") in api.objects)


async def test_what_a_service_asks_for_goes_before_reports_and_its_own_status_wakes_nobody(api: FakeApi) -> None:
    waits, asks = make(api, "waits"), make(api, "asks")
    async with working(api) as work:
        await work.relist()
        for key in (waits, asks):
            await settled(work, key)
        while (taken := work.passes.queue.take(time.monotonic())) is not None:
            work.passes.queue.done(taken)
        reported = {**api.objects[LLM_SERVICE, *waits], "status": {"children": 99}}
        work._event(LLM_SERVICE, "MODIFIED", api.put(reported))
        assert len(work.passes.queue) == 0
        work._event(DEPLOYMENT, "MODIFIED", api.put({**api.objects[DEPLOYMENT, *waits], "status": {}}, DEPLOYMENT))
        work._event(LLM_SERVICE, "MODIFIED", api.put({**api.objects[LLM_SERVICE, *asks], "spec": {"size": 2}}))
        soon = time.monotonic() + 1
        assert [work.passes.queue.take(soon), work.passes.queue.take(soon)] == [asks, waits]


async def test_an_edit_between_a_pass_and_its_status_is_not_lost_with_the_event_that_comes_after(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the write of status has the edit already, so that its event is no news: nothing else would tell."""
    key = make(api)
    async with working(api) as work:
        await work.relist()
        while (taken := work.passes.queue.take(time.monotonic())) is not None:
            work.passes.queue.done(taken)
        write = work.client.apply_status
        edits: list[Json] = []

        async def edited_before(body: Json) -> Json:
            if not edits:
                edits.append(api.put({**api.objects[LLM_SERVICE, *key], "spec": {"size": 2}}))
            return await write(body)

        monkeypatch.setattr(work.client, "apply_status", edited_before)
        assert await work.reconcile(key) == TOGETHER_SECONDS
        assert await work.reconcile(key) == TOGETHER_SECONDS, "what was edited while it reported is to be looked at"
        work._event(LLM_SERVICE, "MODIFIED", edits[0])
        assert len(work.passes.queue) == 0, "no news"
        await settled(work, key)
        assert api.objects[DEPLOYMENT, *key]["spec"] == {"size": 2}


async def test_what_went_away_in_a_gap_of_the_watches_is_noticed_at_once(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "GAP_SECONDS", 0.05)
    monkeypatch.setattr(source, "LONGEST_PAUSE", 0.05)
    key = make(api)
    async with running(api) as work:
        await until(lambda: (SERVICE, *key) in api.objects)
        await until(lambda: len(api.watchers) == len(work_module.KINDS))
        api.mute_watches = True
        make(api, "other")
        api.remove(SERVICE, *key)
        api.compact()
        api.mute_watches = False
        api.hang_up()
        await until(lambda: (SERVICE, *key) in api.objects)
        assert work.source.restarts == 0


async def test_a_namespace_that_is_gone_stops_no_service_of_another_and_is_told(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(mirror, "RETRY_SECONDS", 0.05)
    gone = True
    api.fault = lambda method, path: refusal(403, "Forbidden") if gone and "/namespaces/gone/" in path else None
    key = make(api)
    api.put({"metadata": {"name": "late", "namespace": "gone"}, "spec": {}})
    health = Health(1e9)
    async with Client(api.access, sleep=no_sleep) as client:
        installation = Installation.model_validate(
            {"images": [{"image": "runtime:1", "engines": ["LlamaCpp"]}], "namespaces": ["gone", "apps"]}
        )
        await main._wait_for_api(client, installation, health)
        work = Work(api.access, client, CONFIG, Scope(("gone", "apps")), health, decide)
        task = asyncio.create_task(work.run())
        await until(lambda: (SERVICE, *key) in api.objects and "relist" in health.problems)
        assert "/namespaces/gone/llmservices: 403" in health.problems["relist"]
        gone = False
        await until(lambda: (SERVICE, "gone", "late") in api.objects and "relist" not in health.problems)
        task.cancel()
        await asyncio.wait([task])


async def test_in_a_namespace_that_is_listed_in_part_nothing_is_decided(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "RETRY_SECONDS", 0.05)
    refused = "/namespaces/part/pods"
    api.fault = lambda method, path: refusal(403, "Forbidden") if path.endswith(refused) else None
    key = make(api)
    api.put({"metadata": {"name": "late", "namespace": "part"}, "spec": {}})
    async with Client(api.access, sleep=no_sleep) as client:
        work = Work(api.access, client, CONFIG, Scope(("part", "apps")), Health(1e9), decide)
        task = asyncio.create_task(work.run())
        await until(lambda: (SERVICE, *key) in api.objects and work.passes.results["done"] >= 1)
        assert (SERVICE, "part", "late") not in api.objects
        refused = "nothing"
        await until(lambda: (SERVICE, "part", "late") in api.objects)
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("cache", [{"persistentVolumeClaim": {"claimName": "models"}}, {"type": "EmptyDir"}, None])
async def test_a_service_on_a_claim_is_told_of_the_others_in_its_namespace(api: FakeApi, cache: Json | None) -> None:
    for name, namespace in (("one", "apps"), ("two", "apps"), ("far", "other")):
        spec = {"cache": cache} if cache is not None else {}
        api.put({"metadata": {"name": name, "namespace": namespace}, "spec": spec})
    seen: list[Observed] = []

    def look(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
        seen.append(observed)
        return Outcome()

    async with Client(api.access) as client:
        work = Work(api.access, client, CONFIG, Scope(), Health(1e9), decide=look)
        await work.relist()
        await work.reconcile(("apps", "one"))
    shared = cache is not None and "persistentVolumeClaim" in cache
    assert sorted(seen[0].services) == (["one", "two"] if shared else [])
