"""The operator is killed at random among random edits, on a real API server: nothing is lost, then nothing is written.

SIGKILL comes while it starts, while it writes, and while it waits; edits come before, between and after. When the
kills are over every service is what was last asked for, and an operator that comes new to that finds nothing to do.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.crowd import OPERATOR, fill, services
from bench.fake_controllers import Controllers
from bench.process import Operator, operator
from cluster.api import api_only
from llmservice_kube.client import WRITES, Client
from llmservice_kube.kinds import DEPLOYMENT, LEASE, LLM_SERVICE, Json
from llmservice_kube.login import login
from llmservice_operator.facts.live import holds

SERVICES = 8
KILLS = 40
AFTER_SECONDS = 1.2
"""The longest that an operator lives after the edits of its round."""
REST_SECONDS = 5.0
PATIENCE = 180.0
REQUESTS = "llmservice_operator_api_requests_total"

Key = tuple[str, str]
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with api_only(tmp_path_factory.mktemp("api") / "server") as path:
        yield path


@dataclass
class Wishes:
    """What was last asked of every service, by dice."""

    client: Client
    dice: random.Random
    specs: dict[Key, Json] = field(default_factory=dict)
    edits: int = 0

    async def change(self, key: Key) -> None:
        """One edit, as a user sends it."""
        spec: Json = self.dice.choice(
            [
                {"replicas": self.dice.randint(1, 3)},
                {"contextTokens": self.dice.choice([1024, 2048, 3072])},
                {"model": {"uri": f"hf://a/{self.dice.choice('bcdef')}"}},
                {"endpoint": {"drainSeconds": self.dice.randint(30, 60)}},
            ]
        )
        await self.client.send("patch", LLM_SERVICE, LLM_SERVICE.path(*key), {"fieldManager": "user"}, {"spec": spec})
        self.specs[key] = self.specs.get(key, {}) | spec
        self.edits += 1

    async def lost(self) -> list[str]:
        """What is not as it was last asked for, in services' status and in what they run; nothing = all are Ready."""
        listed = {_key(live): live for live in (await self.client.list(LLM_SERVICE)).items}
        running = {_key(live): live for live in (await self.client.list(DEPLOYMENT)).items}
        found = [f"{key}: of a service and its Deployment there is one" for key in listed.keys() ^ running.keys()]
        for key in listed.keys() & running.keys():
            found += [f"{key}: {what}" for what in _differs(listed[key], running[key], self.specs.get(key, {}))]
        return found


def _key(live: Json) -> Key:
    return live["metadata"]["namespace"], live["metadata"]["name"]


def _differs(live: Json, deployment: Json, spec: Json) -> Iterator[str]:
    template, status = deployment["spec"]["template"], live.get("status", {})
    if not holds(live, "Ready") or status.get("observedGeneration") != live["metadata"]["generation"]:
        yield f"not Ready at generation {live['metadata']['generation']}: {status.get('conditions')}"
    if deployment["spec"]["replicas"] != spec.get("replicas", 1):
        yield f"{deployment['spec']['replicas']} replicas for {spec}"
    uri = spec.get("model", {"uri": "hf://a/b"})["uri"]
    grace, drain = template["spec"]["terminationGracePeriodSeconds"], spec.get("endpoint", {"drainSeconds": 0})
    if uri.removeprefix("hf://") not in str(template) or str(spec.get("contextTokens", "")) not in str(template):
        yield f"a template of another model or context for {spec}: {template}"
    if grace <= drain["drainSeconds"]:
        yield f"{grace} s of grace for {spec}"


async def kill(process: Operator, client: Client) -> None:
    """Gone between two instructions. Its Lease goes too: that the next one waits for it is tested elsewhere."""
    process.process.send_signal(signal.SIGKILL)
    process.process.wait()
    if (lease := await client.get(LEASE, OPERATOR, "llmservice-operator")) is not None:
        await client.delete(LEASE, OPERATOR, "llmservice-operator", lease["metadata"]["uid"])


async def until_none(amiss: Callable[[], Any], process: Operator, seconds: float = PATIENCE) -> None:
    """Ask until nothing is amiss; what still is, and what the operator said last, when that never comes."""
    found: Any = "not asked yet"
    try:
        async with asyncio.timeout(seconds):
            while found := await amiss():
                assert process.process.poll() is None, process.log.read_text()
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise AssertionError(f"{found}\n{process.log.read_text()[-5000:]}") from error


async def writes(process: Operator) -> dict[str, float]:
    """What it sent that changes something, but for its own Lease."""
    metrics = await process.metrics()
    return {
        name: count
        for name, count in metrics.items()
        if name.startswith(REQUESTS) and any(f'verb="{verb}"' in name for verb in WRITES) and 'kind="Lease"' not in name
    }


async def restless(process: Operator) -> bool:
    """Whether it still writes: reports wait for what runs, so they come after that is as asked."""
    before = await writes(process)
    await asyncio.sleep(REST_SECONDS)
    return await writes(process) != before


async def unseen(process: Operator, services: int) -> bool:
    """Whether it has not looked as often yet as there are services."""
    metrics = await process.metrics()
    start = "llmservice_operator_reconciles_total"
    return sum(count for name, count in metrics.items() if name.startswith(start)) < services


@pytest.mark.long
@pytest.mark.parametrize("seed", [1])
async def test_killed_anywhere_among_edits_it_loses_nothing_and_then_rests(
    kubeconfig: Path, tmp_path: Path, record_property: Record, seed: int
) -> None:
    dice = random.Random(seed)
    access, home = await login(str(kubeconfig)), f"--namespace={OPERATOR}"
    async with Client(access) as client, Controllers(access).running():
        await fill(client, nodes=3, pods=0)
        keys = await services(client, SERVICES)
        wishes = Wishes(client, dice)
        for _ in range(KILLS):
            async with operator(kubeconfig, tmp_path, home, name="killed") as process:
                if dice.random() < 0.8:  # the others die while they start
                    await process.until("/readyz", "leading")
                for key in dice.sample(keys, dice.randint(1, 3)):
                    await wishes.change(key)
                await asyncio.sleep(dice.uniform(0, AFTER_SECONDS))
                await kill(process, client)
        async with operator(kubeconfig, tmp_path, home, name="last") as process:
            await until_none(wishes.lost, process)
            await until_none(lambda: restless(process), process)
            await kill(process, client)
        async with operator(kubeconfig, tmp_path, home, name="idle") as process:
            await process.until("/readyz", "leading")
            await until_none(lambda: unseen(process, len(keys)), process)
            assert await writes(process) == {}
            assert await wishes.lost() == []
    for what, count in (("kills", KILLS + 1), ("edits", wishes.edits), ("services", SERVICES)):
        record_property(what, count)
    assert "bug" not in (tmp_path / "killed.log").read_text() + (tmp_path / "last.log").read_text()
