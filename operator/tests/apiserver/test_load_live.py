"""What a replica measured reaches status once, through the schema of the real API server."""

from __future__ import annotations

import asyncio
from typing import Any

from live_world import make, settle, work_in  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE, POD, Json
from llmservice_kube.login import Access
from llmservice_operator.facts.live import holds

LOAD: dict[str, Any] = {
    "seconds": 2.5,
    "phases": {"Loading": 2.0, "SelfTest": 0.25},
    "predicted": {"host": 1 << 30, "gpu": 1 << 30},
    "measured": {"host": 2 << 30, "gpu": 2 << 30},
    "tokens_per_second": 3.2,
    "findings": ["It took more."],
}


async def test_a_load_is_written_once_and_kept_as_it_was_written(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    work = work_in(access, client, namespace)
    asked: list[str] = []
    learned = asyncio.Event()
    work._loads._changed = lambda _: learned.set()

    async def ask(url: str) -> Json:
        asked.append(url)
        return {"load": LOAD}

    work._loads._ask = ask
    learning = asyncio.ensure_future(work._loads.run())
    try:
        await settle(work, client, namespace)
        for pod in (await client.list(POD, namespace)).items:
            if holds(pod, "Ready"):
                path = POD.path(namespace, pod["metadata"]["name"], "status")
                status = {"status": {"podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}]}}
                await client.send("patch", POD, path, {"fieldManager": "controllers"}, status)
        await settle(work, client, namespace)
        await asyncio.wait_for(learned.wait(), 30)
        await settle(work, client, namespace)
        live = await client.get(LLM_SERVICE, *key)
        assert live is not None
        load = live["status"]["load"]
        assert (load["milliseconds"], load["measuredMemory"], load["plannedGPUMemory"]) == (2500, "2048Mi", "1024Mi")
        assert load["findings"] == ["It took more."] and load["tokensPerSecond"] == 3
        written = client.counts["apply_status", "LLMService"]
        for _ in range(3):
            await settle(work, client, namespace)
        assert client.counts["apply_status", "LLMService"] == written
        assert asked == ["http://10.0.0.7:8001/status"]
    finally:
        learning.cancel()
        await asyncio.gather(learning, return_exceptions=True)
