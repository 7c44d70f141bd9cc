"""PodMonitors: where the cluster serves them and they may be listed, and nowhere else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE
from llmservice_operator.control.health import Health
from llmservice_operator.control.monitoring import as_served, run_as_served
from llmservice_operator.control.work import Scope, Work
from llmservice_operator.facts.config import Monitoring, OperatorConfig, RuntimeImage
from llmservice_operator.facts.values import Observed
from llmservice_operator.reconcile import reconcile
from llmservice_runtime.contract.engines import EngineType

IMAGE = RuntimeImage("runtime:1", (EngineType.LLAMA_CPP,))
CONFIG = OperatorConfig((IMAGE,), "llm-system", monitoring=Monitoring(15))
WHERE = ("open", "shut")
ONLY_OPEN = dataclasses.replace(CONFIG, monitoring=Monitoring(15, namespaces=("open",)))


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


def shut(api: FakeApi, *namespaces: str) -> None:
    """In these PodMonitors may not be listed."""
    ends = tuple(f"/{namespace}/podmonitors" for namespace in namespaces)
    api.fault = lambda method, path: refusal(403, "Forbidden") if ends and path.endswith(ends) else None


async def test_a_namespace_that_refuses_them_costs_no_other(api: FakeApi) -> None:
    async with Client(api.access) as client:
        assert await as_served(client, CONFIG, WHERE) == (CONFIG, "")
        shut(api, "shut")
        served, said = await as_served(client, CONFIG, WHERE)
        assert served == ONLY_OPEN and "made 403" in said
        shut(api, *WHERE)
        served, _ = await as_served(client, CONFIG, WHERE)
        assert served.monitoring is None


async def test_a_right_that_comes_or_goes_in_one_namespace_is_noticed(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    terms: asyncio.Queue[OperatorConfig] = asyncio.Queue()

    async def work(served: OperatorConfig) -> None:
        await terms.put(served)
        await asyncio.Event().wait()

    shut(api, "shut")
    async with Client(api.access) as client, asyncio.timeout(30):
        running = asyncio.create_task(run_as_served(client, CONFIG, WHERE, work, pause=0.01))
        assert await terms.get() == ONLY_OPEN
        assert "get no PodMonitor, but in open, until" in caplog.text
        shut(api)
        assert await terms.get() == CONFIG
        shut(api, "shut")
        assert await terms.get() == ONLY_OPEN
        running.cancel()
        await asyncio.wait([running])


async def test_what_may_not_be_listed_is_asked_for_nowhere_and_holds_up_nothing(api: FakeApi) -> None:
    shut(api, "shut")
    for namespace in WHERE:
        api.put({"metadata": {"name": "demo", "namespace": namespace}, "spec": {"model": {"uri": "hf://a/b"}}})
    async with Client(api.access) as client:
        work = Work(api.access, client, ONLY_OPEN, Scope(WHERE), Health(1e9))
        await work.relist()  # raises what it can't read
        assert all(work.cache.knows(namespace) for namespace in WHERE) and work.cache.complete
        assert [path for _, path in api.requests if path.endswith("/podmonitors")] == [
            "/apis/monitoring.coreos.com/v1/namespaces/open/podmonitors"
        ]
        made = {}
        for namespace in WHERE:
            service = work.cache.get(LLM_SERVICE, namespace, "demo")
            assert service is not None
            outcome = reconcile(Observed(service), ONLY_OPEN, datetime.now(UTC))
            made[namespace] = "PodMonitor" in [obj["kind"] for obj in outcome.apply]
        assert made == {"open": True, "shut": False}
