"""Launching and ending models by requests in a cluster: an object is applied, and what the API server says is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from cluster_objects import endpoint, endpoint_slice, llmservice  # type: ignore[import-not-found]
from cluster_world import Here, gateway, until  # type: ignore[import-not-found]
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_api.labels import LAUNCHED
from llmservice_gateway.cluster import launcher as module
from llmservice_gateway.cluster.launcher import MANAGER
from llmservice_gateway.cluster.leave import leave
from llmservice_gateway.dialects.xinference_launch import launch
from llmservice_gateway.launching import routes, standing
from llmservice_gateway.launching.errors import key_may_not
from llmservice_gateway.launching.wish import Leave, Wish
from llmservice_kube.kinds import ENDPOINT_SLICE, LLM_SERVICE
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.wire.errors import ApiError

LEAVE = Leave(frozenset(("hf",)), ("apps", "team"), more="Add {} to gateway.launch.sources.")
ASKED = {"model_name": "acme/tiny-GGUF", "quantization": "Q4_K_M"}
TINY = (LLM_SERVICE, "apps", "tiny-q4-k-m")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


def launches(here: Here, leave: Leave = LEAVE) -> None:
    here.world.gateway.launcher = here.cluster.launcher(leave)


async def sent(here: Here, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with here.world.client.request(method, here.world.url + path, json=body) as response:
        return response.status, await response.json()


async def launched(here: Here) -> tuple[int, Any]:
    return await sent(here, "POST", "/v1/models", ASKED)


def reason(here: Here) -> str:
    found = here.table.backends.get("apps/tiny-q4-k-m")
    return found.unready.reason if found else ""


def wish_of(given: Any) -> Wish:
    return replace(launch(given, LEAVE), namespace="apps")


def become(api: FakeApi, reason: str, status: str = "False", message: str = "So it is.", model: Any = None) -> None:
    """What the operator says of it."""
    obj = api.objects[TINY]
    conditions = [{"type": "Ready", "status": status, "reason": reason, "message": message}]
    api.put({**obj, "status": {"conditions": conditions, **({"model": model} if model else {})}})


async def test_a_launch_is_an_object_and_is_answered_when_it_is_served(api: FakeApi) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        asking = asyncio.create_task(sent(here, "POST", "/v1/models", ASKED))
        await until(lambda: TINY in api.objects)
        made = api.objects[TINY]
        assert made["metadata"]["labels"] == {LAUNCHED: "xinference"}
        assert {one["manager"] for one in made["metadata"]["managedFields"]} == {MANAGER}
        model = {"uri": "hf://acme/tiny-GGUF", "include": ["*Q4_K_M*.gguf"], "expectedFormat": "GGUF"}
        assert made["spec"] == {"model": model}
        become(api, "Loading")
        await until(lambda: "apps/tiny-q4-k-m" in here.table.backends)
        status, told = await sent(here, "GET", "/v1/models/apps.tiny-q4-k-m/progress")
        assert status == 200 and 0 <= told["progress"] < 1 and not asking.done()
        become(api, "Idle", "True")
        assert await asking == (200, {"model_uid": "apps.tiny-q4-k-m"})
        assert await sent(here, "GET", "/v1/models/apps.tiny-q4-k-m/progress") == (200, {"progress": 1.0})
        assert (await sent(here, "DELETE", "/v1/models/apps.tiny-q4-k-m"))[0] == 200
        await until(lambda: TINY not in api.objects)


async def test_a_launch_that_fails_is_told_and_leaves_nothing(api: FakeApi) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        asking = asyncio.create_task(sent(here, "POST", "/v1/models", ASKED))
        await until(lambda: TINY in api.objects)
        become(api, "DoesNotFit", message="It lacks 3 GiB. Take a smaller one.")
        status, told = await asking
        assert status == 422 and "It lacks 3 GiB. Take a smaller one." in told["detail"]
        await until(lambda: TINY not in api.objects)


async def test_what_admission_says_is_told_as_it_is(api: FakeApi) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        said = "admission webhook denied the request: spec.model.uri: hf is closed on Mondays. Come back."

        def refuse(method: str, path: str) -> web.Response | None:
            return refusal(403, "Forbidden", message=said) if method == "PATCH" and "llmservices" in path else None

        api.fault = refuse
        status, told = await sent(here, "POST", "/v1/models", ASKED)
        assert status == 403 and said in told["detail"]


async def test_only_what_was_launched_is_removed_and_only_where_it_may_be(api: FakeApi) -> None:
    api.put(llmservice())
    async with gateway(api) as here:
        launches(here)
        await until(lambda: "apps/demo" in here.table.backends)
        status, told = await sent(here, "DELETE", "/v1/models/apps.demo")
        assert status == 403 and "kubectl delete" in told["detail"] and LAUNCHED in told["detail"]
        status, told = await sent(here, "DELETE", "/api/delete", {"model": "apps/demo"})
        assert status == 403 and "launched by no client" in told["error"]
        obj = api.objects[LLM_SERVICE, "apps", "demo"]
        api.put({**obj, "metadata": {**obj["metadata"], "labels": {LAUNCHED: "yes"}}})
        await until(lambda: here.world.gateway.launcher.launched("apps/demo"))
        assert (await sent(here, "DELETE", "/api/delete", {"model": "apps/demo"}))[0] == 200
        status, told = await sent(here, "POST", "/v1/models", {**ASKED, "model_uid": "other.x"})
        assert status == 403 and "apps, team" in told["detail"]


async def test_what_others_launched_stays_when_a_pull_of_it_fails(api: FakeApi) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        asked = {"model": "acme/tiny-GGUF:Q4_K_M", "stream": False}
        assert (await sent(here, "POST", "/v1/models?wait_ready=false", ASKED))[0] == 200
        become(api, "CrashLoop", message="It crashes.")
        await until(lambda: reason(here) == "CrashLoop")
        status, told = await sent(here, "POST", "/api/pull", asked)
        assert status == 422 and "It crashes." in told["error"] and TINY in api.objects


async def test_a_pull_of_one_that_came_to_nothing_tries_it_again(api: FakeApi) -> None:
    """Of one that another request launched, which left: nobody removed it."""
    asked = {"model": "acme/tiny-GGUF:Q4_K_M", "stream": False}
    why = {"status": "False", "reason": "ModelNotFound", "message": "There is none."}
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        assert (await sent(here, "POST", "/v1/models?wait_ready=false", ASKED))[0] == 200
        failed = api.objects[TINY]
        conditions = [{"type": kind, **why} for kind in ("ModelResolved", "Ready")]
        api.put({**failed, "status": {"conditions": conditions}})
        await until(lambda: reason(here) == "ModelNotFound")
        status, told = await sent(here, "POST", "/v1/models", ASKED)
        assert status == 409 and "already" in told["detail"], "Xinference's clients end it first"
        pulling = asyncio.create_task(sent(here, "POST", "/api/pull", asked))
        await until(lambda: TINY in api.objects and api.objects[TINY]["metadata"]["uid"] != failed["metadata"]["uid"])
        become(api, "Idle", "True")
        assert await pulling == (200, {"status": "success"})


async def test_one_that_is_being_removed_is_waited_for(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's finalizer, or a removal in the foreground, keeps it for a while."""
    monkeypatch.setattr(module, "GOES_SECONDS", 0.01)
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        assert (await sent(here, "POST", "/v1/models?wait_ready=false", ASKED))[0] == 200
        old = api.objects[TINY]
        api.put({**old, "metadata": {**old["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z"}})
        await until(lambda: reason(here) == "Draining")
        for body in ({"model": "acme/tiny-GGUF:Q4_K_M", "stream": False}, None):
            pulling = asyncio.create_task(sent(here, "POST", "/api/pull", body) if body else launched(here))
            await asyncio.wait({pulling}, timeout=0.2)
            assert not pulling.done() and api.objects[TINY]["metadata"]["uid"] == old["metadata"]["uid"]
            api.remove(*TINY)
            await until(lambda: TINY in api.objects)
            become(api, "Idle", "True")
            assert (await pulling)[0] == 200
            old = api.objects[TINY]
            api.put({**old, "metadata": {**old["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z"}})
            await until(lambda: reason(here) == "Draining")
        monkeypatch.setattr(module, "TOLD_SECONDS", 0.0)
        status, told = await launched(here)
        assert status == 503 and "is still being removed; retry" in told["detail"]


async def test_a_launch_that_is_not_waited_for_is_found_at_once(api: FakeApi) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        for _ in range(3):
            assert (await sent(here, "POST", "/v1/models?wait_ready=false", ASKED))[0] == 200
            assert (await sent(here, "DELETE", "/v1/models/apps.tiny-q4-k-m"))[0] == 200


async def test_children_of_the_one_before_that_still_go_are_no_failure(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        asking = asyncio.create_task(sent(here, "POST", "/v1/models", ASKED))
        await until(lambda: TINY in api.objects)
        become(api, "NameConflict", message="A Deployment is another's.")
        await until(lambda: reason(here) == "NameConflict")
        await asyncio.wait({asking}, timeout=2 * standing.LOOK_SECONDS)
        assert not asking.done()
        monkeypatch.setattr(standing, "STANDS_SECONDS", {})
        assert (await asking)[0] == 422


async def test_replicas_of_the_one_before_are_not_those_of_the_next(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, younger = api.put, {"creationTimestamp": "2026-02-02T03:04:05Z"}
    monkeypatch.setattr(api, "put", lambda obj, *kind: put({**obj, "metadata": {**younger, **obj["metadata"]}}, *kind))
    left = endpoint_slice(endpoint("old", "127.0.0.1"), service="tiny-q4-k-m")
    left["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    api.put(left, ENDPOINT_SLICE)
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        asking = asyncio.create_task(sent(here, "POST", "/v1/models", ASKED))
        await until(lambda: here.replicas("apps/tiny-q4-k-m") == ["old"])
        await asyncio.wait({asking}, timeout=2 * standing.LOOK_SECONDS)
        assert not asking.done(), "it serves another model yet"
        api.remove(ENDPOINT_SLICE, "apps", left["metadata"]["name"])
        await until(lambda: not here.replicas("apps/tiny-q4-k-m"))
        assert not asking.done()
        become(api, "Idle", "True")
        assert (await asking)[0] == 200


async def test_a_model_that_is_called_like_one_that_came_in_between_is_not_taken_for_it(api: FakeApi) -> None:
    pull = Wish("rival/tiny-GGUF:Q4_K_M", "ollama", namespace="apps", again=True)
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        launcher = here.world.gateway.launcher
        made = wish_of(ASKED).manifest()
        api.objects[TINY] = {
            **made,
            "metadata": {**made["metadata"], "uid": "1", "resourceVersion": "7"},
        }  # no watch tells
        with pytest.raises(ApiError) as refused:
            await launcher.launch(pull, lambda _: None)
        assert refused.value.status == 503 and "another model" in refused.value.message
        assert (await launcher.launch(replace(pull, word="acme/tiny-GGUF:Q4_K_M"), lambda _: None)).made == ""


async def test_a_name_that_is_free_again_is_free_though_the_watch_has_not_told(api: FakeApi) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        assert (await sent(here, "POST", "/v1/models?wait_ready=false", ASKED))[0] == 200
        old = api.objects.pop(TINY)  # of which no watch tells
        begun = await here.world.gateway.launcher.launch(wish_of(ASKED), lambda _: None)
        assert begun.made == api.objects[TINY]["metadata"]["uid"] != old["metadata"]["uid"]


async def test_a_key_needs_the_right_to_the_name_that_a_launch_gets(api: FakeApi) -> None:
    api.put(llmservice("tiny"))
    async with gateway(api) as here:
        await until(lambda: "apps/tiny" in here.table.backends)
        launcher, asked = here.cluster.launcher(LEAVE), list[str]()

        def may(service: str) -> None:
            asked.append(service)
            if service != "apps/tiny":
                raise key_may_not("ops", service)

        with pytest.raises(ApiError, match="may not launch"):
            await launcher.launch(wish_of({"model_name": "acme/tiny"}), may)
        assert len(asked) == 2 and not [key for key in api.objects if key[0] == LLM_SERVICE and key[2] == asked[1][5:]]


async def test_a_pull_of_which_nothing_is_new_says_something(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is between client and gateway ends streams that are silent."""
    monkeypatch.setattr(routes, "BEAT_SECONDS", 0.0)
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        body = {"model": "acme/tiny-GGUF:Q4_K_M"}
        async with here.world.client.post(f"{here.world.url}/api/pull", json=body) as response:
            first = await response.content.readline()
            assert b"manifest" in first
            for _ in range(2):
                assert await response.content.readline() == first, "readers wait for whole lines"
            become(api, "Idle", "True")
            assert json.loads((await response.content.read()).splitlines()[-1]) == {"status": "success"}


async def test_what_is_launched_has_the_installations_cache_and_what_fills_that_is_told(api: FakeApi) -> None:
    cache = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}
    async with gateway(api) as here:
        launches(here, replace(LEAVE, cache=cache))
        await until(lambda: here.cluster.directory.ready)
        body = {"model": "acme/tiny-GGUF:Q4_K_M"}
        async with here.world.client.post(f"{here.world.url}/api/pull", json=body) as response:
            assert b"manifest" in await response.content.readline()
            assert api.objects[TINY]["spec"]["cache"] == cache
            become(api, "Downloading", model={"fileBytes": 5000})
            line = json.loads(await response.content.readline())
            assert line["total"] == 5000 and "completed" not in line, "nobody knows how many are there"
            told = await sent(here, "GET", "/v1/models/apps.tiny-q4-k-m/progress")
            assert told[0] == 200 and told[1]["progress"] == 0
            become(api, "Idle", "True", model={"fileBytes": 5000})
            last = [json.loads(one) for one in (await response.text()).splitlines()]
        assert (last[0]["completed"], last[-1]) == (5000, {"status": "success"})


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "a mapping"),
        ('{"type": "Disk"}', '"Disk" is not one of'),
        ('{"persistentVolumeClaim": {"claimName": "models"}}', "persistentVolumeClaim: type and"),
        ('{"type": "HostPath", "hostPath": {"path": "models"}}', "hostPath.path"),
    ],
)
def test_a_cache_that_no_service_could_have_is_refused_when_the_gateway_starts(cache: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        leave(["apps"], ["hf"], cache=cache, keys=True)
    assert "--launch-cache" in str(refused.value) and said in str(refused.value)


def test_nothing_is_launched_by_anybody_nor_where_nobody_looks() -> None:
    for words, keys, said in (
        ((["apps"], ["hf"]), False, "--keys-of"),
        ((["apps"], ["ollama"]), True, "ollama names no source"),
        ((["apps", "b"], ["hf"], ["apps"]), True, "b is not watched"),
    ):
        with pytest.raises(UserError) as refused:
            leave(*words, keys=keys)
        assert said in f"{refused.value}"
    assert leave(["apps"], ["hf"], ["apps"], '{"type": "EmptyDir"}', keys=True).cache == {"type": "EmptyDir"}


@pytest.mark.parametrize("streams", [True, False])
async def test_a_pull_makes_a_service_at_zero(api: FakeApi, streams: bool) -> None:
    async with gateway(api) as here:
        launches(here)
        await until(lambda: here.cluster.directory.ready)
        body = {"model": "acme/tiny-GGUF:Q4_K_M", "stream": streams}
        asking = asyncio.create_task(here.world.client.post(f"{here.world.url}/api/pull", json=body))
        await until(lambda: TINY in api.objects)
        spec = api.objects[TINY]["spec"]
        assert spec["replicas"] == 0 and spec["scaling"]["minReplicas"] == 0
        become(api, "Idle", "True")
        async with await asking as response:
            lines = (await response.text()).splitlines()
        assert '"success"' in lines[-1] and len(lines) == (2 if streams else 1)
        status, told = await sent(here, "POST", "/api/pull", {"model": "llama3"})
        assert status == 400 and "OWNER/NAME" in told["error"]
