from __future__ import annotations

import re

import aiohttp
from fake_api import fake_api  # type: ignore[import-not-found]
from test_work import CONFIG, make, no_sleep  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE
from llmservice_operator.control.health import Health
from llmservice_operator.control.probes import probes
from llmservice_operator.control.work import Scope, Work
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.values import Observed, Outcome


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


def ready_if_asked(observed: Observed, config: OperatorConfig, now: object) -> Outcome:
    status = "True" if observed.service["spec"].get("good") else "False"
    adapters = [{"name": name, "state": state} for name, state in observed.service["spec"].get("states", {}).items()]
    return Outcome(status={"conditions": [{"type": "Ready", "status": status, "reason": "X"}], "adapters": adapters})


async def test_metrics_tell_of_each_service_while_it_is_there_and_of_the_time_that_passes_take() -> None:
    async with fake_api() as api, Client(api.access, sleep=no_sleep) as client:
        health = Health(1e9)
        work = Work(api.access, client, CONFIG, Scope(), health, ready_if_asked)
        keys = [make(api, "good", good=True, states={"a": "Loaded", "b": "Failed", "c": "Loaded"}), make(api, "bad")]
        async with probes(health, lambda: work, "127.0.0.1", 0) as port:
            await work.relist()
            for key in keys:
                await work.passes.one(key)
            _, text = await get(port, "/metrics")
            assert 'llmservice_operator_service_ready{name="good",namespace="apps"} 1.0' in text
            assert 'llmservice_operator_service_ready{name="bad",namespace="apps"} 0.0' in text
            told = re.findall(r'service_adapters{name="(.*)",namespace="apps",state="(.*)"} (.*)', text)
            states = {"Pending": "0.0", "Loading": "0.0", "Loaded": "2.0", "Failed": "1.0"}
            assert told == [("good", state, count) for state, count in states.items()], "and none of the one without"
            assert "llmservice_operator_reconcile_seconds_count 2.0" in text
            assert 'llmservice_operator_reconcile_seconds_bucket{le="30.0"} 2.0' in text
            api.remove(LLM_SERVICE, *keys[0])
            await work.relist()
            await work.passes.one(keys[0])
            _, text = await get(port, "/metrics")
            assert 'name="good"' not in text
            health.problem("watch", "silence")
            assert await get(port, "/readyz") == (503, "watch: silence\n")
