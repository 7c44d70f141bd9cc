"""A pass that fails by a bug, on the real API server: its words are taken, and go when a pass succeeds."""

from __future__ import annotations

from datetime import datetime

from live_world import edit, make, settle, settled, work_in, written  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import DEPLOYMENT, LLM_SERVICE, Json
from llmservice_kube.login import Access
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.values import Observed, Outcome
from llmservice_operator.reconcile import reconcile


async def test_a_bug_is_told_once_beside_what_serves_and_is_gone_with_the_next_pass(
    access: Access, client: Client, namespace: str
) -> None:
    def buggy(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
        if observed.service["spec"].get("contextTokens") == 2048:
            raise ZeroDivisionError("tokens")
        return reconcile(observed, config, now)

    key = await make(client, namespace)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        work._decide_by = buggy
        await settle(work, client, namespace)
        served = await client.get(LLM_SERVICE, *key)
        deployed = await client.get(DEPLOYMENT, *key)
        await edit(client, key, contextTokens=2048)
        await work.relist()
        await work.passes.one(key)
        live = await client.get(LLM_SERVICE, *key)
        assert served is not None and live is not None
        ready = conditions(live)["Ready"]
        assert (ready["status"], ready["reason"]) == ("True", "InternalError")
        assert ready["observedGeneration"] == live["metadata"]["generation"]
        assert "ZeroDivisionError: tokens" in ready["message"]
        assert live["status"]["url"] == served["status"]["url"]
        assert await client.get(DEPLOYMENT, *key) == deployed
        before = written(own)
        for _ in range(3):
            await work.passes.one(key)
        assert written(own) == before
        await edit(client, key, contextTokens=4096)
        await work.relist()
        await settled(work, key)
        await settle(work, client, namespace)
        live = await client.get(LLM_SERVICE, *key)
        assert live is not None
        assert {kind: found["reason"] for kind, found in conditions(live).items()} == {
            kind: found["reason"] for kind, found in conditions(served).items()
        }


def conditions(service: Json) -> dict[str, Json]:
    return {entry["type"]: entry for entry in service["status"]["conditions"]}
