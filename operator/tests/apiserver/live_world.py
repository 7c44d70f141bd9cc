"""One operator on the real API server, step by step: relist, reconcile, and controllers that are played in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fake_controllers import Controllers  # type: ignore[import-not-found]

from llmservice_kube.client import WRITES, Client
from llmservice_kube.kinds import LLM_SERVICE, OWNED, POD, SERVICE_ACCOUNT, Json, Kind
from llmservice_kube.login import Access
from llmservice_operator.control.diff import APPLIED
from llmservice_operator.control.health import Health
from llmservice_operator.control.passes import StillRefused
from llmservice_operator.control.work import TOGETHER_SECONDS, Scope, Work
from llmservice_operator.facts.config import OperatorConfig, RuntimeImage
from llmservice_operator.facts.nodes import NodeKind
from llmservice_runtime.contract.engines import EngineType

CONFIG = OperatorConfig((RuntimeImage("runtime:1", (EngineType.LLAMA_CPP,)),), "llm-system")
NODES = (NodeKind(8, 32 << 30, "amd64"),)


class Crash(Exception):
    """The operator's process is gone."""


class DyingClient(Client):
    """After so many writes nothing that it sends matters: the process is gone. 0 = it lives."""

    lives_for = 0

    async def send(
        self,
        verb: str,
        kind: Kind,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Json:
        answer = await super().send(verb, kind, path, query, body)
        if self.lives_for and written(self) >= self.lives_for:
            raise Crash
        return answer


def written(client: Client) -> int:
    """Writes it sent."""
    return sum(count for (verb, _), count in client.counts.items() if verb in WRITES)


def work_in(access: Access, client: Client, namespace: str, config: OperatorConfig = CONFIG) -> Work:
    """A term of leadership whose loops do not run."""
    work = Work(access, client, config, Scope((namespace,)), Health(1e9))
    work._nodes.kinds = NODES
    return work


async def make(client: Client, namespace: str, name: str = "qwen", **spec: object) -> tuple[str, str]:
    """An LLMService, and the account that pods need."""
    account = {
        "apiVersion": "v1",
        "kind": SERVICE_ACCOUNT.kind,
        "metadata": {"name": "default", "namespace": namespace},
    }
    await client.create(account)
    body = {
        "apiVersion": LLM_SERVICE.api_version,
        "kind": LLM_SERVICE.kind,
        "spec": {"model": {"uri": "hf://a/b"}} | spec,
    }
    assert await client.create({**body, "metadata": {"name": name, "namespace": namespace}}) is not None
    return namespace, name


async def edit(client: Client, key: tuple[str, str], **spec: object) -> None:
    """What a user does."""
    await client.send("patch", LLM_SERVICE, LLM_SERVICE.path(*key), {"fieldManager": "user"}, {"spec": spec})


async def settle(work: Work, client: Client, namespace: str, report: str | None = None) -> None:
    """Passes over every service, and the controllers' part, until neither does anything. `report` is what Jobs find."""
    controllers = Controllers(work.source._access, report)
    while True:
        before = written(work.client)
        await one_pass(work)
        if not await controllers.play(client, namespace) and written(work.client) == before:
            return


async def settled(work: Work, key: tuple[str, str]) -> None:
    """Passes until one reports, as the queue would have them."""
    while await work.reconcile(key) == TOGETHER_SECONDS:
        continue


async def one_pass(work: Work) -> None:
    """Everything is read anew and every service looked at, as a resync does."""
    await work.relist()
    for key in work.cache.services():
        try:
            await settled(work, key)
        except StillRefused:
            continue


async def end_state(client: Client, namespace: str) -> dict[str, str]:
    """Every object that the operator made and the status, without what differs from one run to another."""
    found = {}
    for kind in (LLM_SERVICE, *(kind for kind in OWNED if kind != POD)):
        for obj in (await client.list(kind, namespace)).items:
            if kind != LLM_SERVICE and "ownerReferences" not in obj["metadata"]:
                continue
            metadata = obj["metadata"]
            annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != APPLIED}
            kept = {"labels": metadata.get("labels"), "annotations": annotations}
            rest = {k: v for k, v in obj.items() if k in ("spec", "data", "revision")}
            if kind == LLM_SERVICE:
                rest["status"] = _without(obj.get("status", {}), lambda name: name == "lastTransitionTime")
            rest = _without(rest, lambda name: name in ("clusterIP", "clusterIPs", "controller-uid"))
            text = json.dumps(kept | rest, sort_keys=True)
            found[f"{kind} {metadata['name']}"] = text.replace(namespace, "NS")
    return found


def _without(value: Any, gone: Callable[[str], bool]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, gone) for k, v in value.items() if not gone(k) and not k.endswith("controller-uid")}
    if isinstance(value, list):
        return [_without(item, gone) for item in value]
    return value


class Clock:
    """The clock of what remembers writes."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def in_time(work: Work) -> Clock:
    """Its clock stands still, but for the test."""
    clock = Clock()
    work._actor.clock = work._clock = clock
    return clock
