"""Somebody who undoes what the operator writes, on the real API server: it is noticed, slowed down and told."""

from __future__ import annotations

import logging

import pytest
from live_world import edit, in_time, make, settle, work_in  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE, NETWORK_POLICY, SERVICE, Json
from llmservice_kube.login import Access
from llmservice_operator.control.ledger import LOOP_WRITES
from llmservice_operator.control.pace import CALM_SECONDS, HURRY_WRITES, PAUSE_SECONDS
from llmservice_operator.control.work import Work


async def take(client: Client, key: tuple[str, str], manager: str = "policy-engine") -> None:
    """What a policy engine does that has its own idea of the object."""
    body: Json = {"spec": {"ingress": [{"from": [{"podSelector": {}}]}]}}
    await client.send("patch", NETWORK_POLICY, NETWORK_POLICY.path(*key), {"fieldManager": manager}, body)


async def told(client: Client, key: tuple[str, str], kind: str = "Ready") -> Json:
    live = await client.get(LLM_SERVICE, *key)
    assert live is not None
    found: Json = next(entry for entry in live["status"]["conditions"] if entry["type"] == kind)
    return found


async def look(work: Work, key: tuple[str, str]) -> float | None:
    await work.relist()
    return await work.reconcile(key)


async def test_a_field_that_is_taken_back_for_ever_is_written_rarely_and_told_with_who_takes_it(
    access: Access, client: Client, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        clock = in_time(work)
        await settle(work, client, namespace)
        assert (await told(client, key))["status"] == "True"
        clock.now += 1000
        before = own.counts["apply", "NetworkPolicy"]
        for _ in range(100):
            await take(client, key)
            await look(work, key)
            clock.now += 0.1
        assert own.counts["apply", "NetworkPolicy"] - before == LOOP_WRITES
        ready, progressing = await told(client, key), await told(client, key, "Progressing")
        assert (ready["status"], ready["reason"], progressing["reason"]) == ("True", "Contested", "Contested")
        assert f"NetworkPolicy {key[1]}: policy-engine takes spec.ingress back" in ready["message"]
        assert "Have policy-engine leave these fields alone" in ready["message"]
        assert sum("Contested: policy-engine takes" in line for line in caplog.messages) == 1
        assert sum(f"applied NetworkPolicy {key[1]}: spec.ingress taken by" in line for line in caplog.messages) == 10
        for _ in range(5):
            clock.now += PAUSE_SECONDS
            for _ in range(3):
                await take(client, key)
                await look(work, key)
        assert own.counts["apply", "NetworkPolicy"] - before == LOOP_WRITES + 5
        await edit(client, key, replicas=2)  # what is not contested goes on
        await settle(work, client, namespace)
        clock.now += PAUSE_SECONDS
        again = [await look(work, key), await look(work, key)][-1]  # the policy engine has stopped
        assert again is not None and again <= CALM_SECONDS
        clock.now += CALM_SECONDS
        await settle(work, client, namespace)
        assert (await told(client, key))["reason"] == "Ready"


async def test_a_child_that_is_deleted_for_ever_is_made_rarely_and_told(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        clock = in_time(work)
        await settle(work, client, namespace)
        clock.now += 1000
        before = own.counts["apply", "Service"]
        for _ in range(30):
            if (live := await client.get(SERVICE, *key)) is not None:
                await client.delete(SERVICE, key[0], key[1], live["metadata"]["uid"])
            await look(work, key)
            clock.now += 0.1
        assert own.counts["apply", "Service"] - before == LOOP_WRITES
        assert "Service qwen: somebody deletes it as soon as it is made" in (await told(client, key))["message"]
        for pause in (PAUSE_SECONDS, CALM_SECONDS):  # it is left alone
            clock.now += pause
            await settle(work, client, namespace)
        assert (await told(client, key))["reason"] == "Ready"


async def test_a_service_that_is_edited_all_the_time_is_followed_rarely_and_told(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        clock = in_time(work)
        await settle(work, client, namespace)
        clock.now += 1000
        before = {kind: own.counts["apply", kind] for kind in ("Service", "Deployment", "NetworkPolicy")}
        for number in range(3 * HURRY_WRITES):
            await label(client, key, f"beat-{number}")
            await look(work, key)
            clock.now += 1
        for kind, count in before.items():
            assert own.counts["apply", kind] - count <= HURRY_WRITES + 1, kind
        ready = await told(client, key)
        assert (ready["status"], ready["reason"]) == ("True", "Contested")
        assert "Find out who edits this LLMService, its labels or its annotations" in ready["message"]
        clock.now += PAUSE_SECONDS  # it has stopped: the last edit is carried out, and nothing more is said
        await settle(work, client, namespace)
        live = await client.get(SERVICE, *key)
        assert live is not None and live["metadata"]["labels"]["beat"] == f"beat-{3 * HURRY_WRITES - 1}"
        clock.now += CALM_SECONDS
        await settle(work, client, namespace)
        assert (await told(client, key))["reason"] == "Ready"


async def label(client: Client, key: tuple[str, str], value: str) -> None:
    """What a controller does that writes its heartbeat into a label."""
    body: Json = {"metadata": {"labels": {"beat": value}}}
    await client.send("patch", LLM_SERVICE, LLM_SERVICE.path(*key), {"fieldManager": "heart"}, body)


async def test_a_rival_of_an_older_release_that_claims_nothing_is_told_from_a_stranger(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        clock = in_time(work)
        await settle(work, client, namespace)
        clock.now += 1000
        theirs = await client.get(NETWORK_POLICY, *key)
        assert theirs is not None
        theirs["metadata"] = {name: theirs["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
        theirs["metadata"]["annotations"] = {"llmservice.dev/applied": "another"}
        theirs["spec"]["ingress"] = []
        for _ in range(LOOP_WRITES + 2):
            live = await client.get(NETWORK_POLICY, *key)
            assert live is not None
            await client.apply({**theirs, "metadata": {**theirs["metadata"], "ownerReferences": _owners(live)}})
            await look(work, key)
            clock.now += 0.1
        assert "another installation of this operator" in (await told(client, key))["message"]


def _owners(live: Json) -> list[Json]:
    found: list[Json] = live["metadata"]["ownerReferences"]
    return found
