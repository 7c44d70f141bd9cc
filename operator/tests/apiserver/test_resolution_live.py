"""A model that is read anew, on the real API server: names, labels and frozen revisions that it takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fake_controllers import PREPARED, set_status  # type: ignore[import-not-found]
from live_world import edit, make, one_pass, settle, work_in, written  # type: ignore[import-not-found]

from llmservice_api.labels import REVISION
from llmservice_kube.client import Client
from llmservice_kube.kinds import CONTROLLER_REVISION, DEPLOYMENT, JOB, LLM_SERVICE, POD, Json
from llmservice_kube.login import Access
from llmservice_operator.facts.live import condition
from llmservice_runtime.contract.failure import FailureClass, FailureRecord

NEW = dataclasses.replace(PREPARED, revision="beef").to_json()


async def downloads(client: Client, key: tuple[str, str]) -> Any:
    """What the replicas' init container is told."""
    live = await client.get(DEPLOYMENT, *key)
    assert live is not None
    return live["spec"]["template"]["spec"]["initContainers"][0]["args"]


async def lose_the_source(client: Client, namespace: str) -> None:
    """A replica that starts anew can't download what was planned with."""
    (pod,) = (await client.list(POD, namespace, labels=REVISION)).items
    record = FailureRecord(FailureClass.MODEL_CHANGED, "Other content.", "Mend it.", "Preparing").to_json()
    ended = {"exitCode": 1, "reason": "Error", "message": record, "startedAt": None, "finishedAt": None}
    fetch: Json = {"name": "fetch", "image": "r", "imageID": "", "ready": False, "restartCount": 3}
    fetch |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
    body = {"apiVersion": "v1", "kind": "Pod", **pod}
    await set_status(client, POD, body, {**pod["status"], "initContainerStatuses": [fetch]})


@pytest.mark.parametrize("follow", [False, True])
async def test_other_content_is_another_plan_for_the_same_spec(
    access: Access, client: Client, namespace: str, follow: bool
) -> None:
    rollout = {"upgradePolicy": "Follow" if follow else "Pinned"}
    key = await make(client, namespace, "n" * 40, rollout=rollout)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        before = await downloads(client, key)
        await lose_the_source(client, namespace)
        await settle(work, client, namespace, NEW)
        assert "--revision=beef" in await downloads(client, key) and "--revision=beef" not in before
        live = await client.get(LLM_SERVICE, *key)
        resolved = condition(live or {}, "ModelResolved")
        assert resolved is not None and "the source no longer has" in resolved["message"]
        jobs = (await client.list(JOB, namespace)).items
        assert not jobs, "what read it anew is gone"
        sent = written(own)
        await one_pass(work)
        assert written(own) == sent
    async with Client(access) as other:  # nothing was remembered
        await one_pass(work_in(access, other, namespace))
        assert written(other) == 0
        await edit(client, key, contextTokens=1024)
        await settle(work_in(access, other, namespace), client, namespace, NEW)
        assert "--revision=beef" in await downloads(client, key)


async def test_an_edit_that_reaches_the_jobs_keeps_the_content(access: Access, client: Client, namespace: str) -> None:
    """Whoever would read the source now would find something else there."""
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        before = await downloads(client, key)
        tolerations = [{"key": "pool", "operator": "Equal", "value": "llm"}]
        await edit(client, key, podTemplate={"spec": {"tolerations": tolerations}})
        await settle(work, client, namespace, NEW)
        assert await downloads(client, key) == before
        live = await client.get(DEPLOYMENT, *key)
        assert live is not None and live["spec"]["template"]["spec"]["tolerations"] == tolerations
        sent = written(own)
        await one_pass(work)
        assert written(own) == sent
        await edit(client, key, podTemplate=None)
        await settle(work, client, namespace, NEW)
        kept = {
            found["metadata"]["name"]: found["revision"]
            for found in (await client.list(CONTROLLER_REVISION, namespace)).items
        }
        live = await client.get(DEPLOYMENT, *key)
        assert live is not None
        in_force = live["spec"]["template"]["metadata"]["labels"][REVISION]
        assert sorted(kept.values()) == [2, 3] and kept[in_force] == 3, "what is taken up again is the newest"
        sent = written(own)
        await one_pass(work)
        assert written(own) == sent
