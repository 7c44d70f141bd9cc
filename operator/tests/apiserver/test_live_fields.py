"""Every field on the real API server: editing a live one restarts nothing, editing any other one rolls."""

from __future__ import annotations

import dataclasses
from typing import Any

from live_world import CONFIG, NODES, Clock, in_time, make, settle, work_in  # type: ignore[import-not-found]

from llmservice_api.labels import ADAPTERS_SEEN, REVISION, selector, serving
from llmservice_api.live import fields, in_pods
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_kube.client import Client
from llmservice_kube.kinds import CLAIM, CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, LLM_SERVICE, POD, Json
from llmservice_kube.login import Access
from llmservice_operator.children.adapter_map import file_digest
from llmservice_operator.control.work import Work
from llmservice_operator.facts.config import Allow, Gateway, RuntimeImage
from llmservice_operator.facts.nodes import NodeKind
from llmservice_runtime.contract.adapters import parse_adapters
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.machine.machine import Device

GPU = RuntimeImage("runtime:cuda", (EngineType.LLAMA_CPP,), (Device.NVIDIA,))
INSTALLATION = dataclasses.replace(
    CONFIG,
    images=(*CONFIG.images, GPU),
    host_paths=("/models/a", "/models/b"),
    allow=Allow(remote_code=True),
    gateway=Gateway("gateway", (("app", "gateway"),)),
)
GPU_NODE = NodeKind(16, 64 << 30, "amd64", (("nvidia.com/gpu", 2),), "NVIDIA-L4", "nvidia.com/gpu.product")


def claim(**body: Any) -> Json:
    return {"cache": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": body}}


def directory(path: str) -> Json:
    return {"cache": {"type": "HostPath", "hostPath": {"path": path}}}


def amounts(*path: str) -> dict[str, list[Json]]:
    """An edit of each amount of `resources` at the path."""
    edits: dict[str, list[Json]] = {}
    for kind in ("requests", "limits"):
        for name, amount in (("cpu", "1"), ("memory", "24Gi"), ("ephemeral-storage", "9Gi")):
            edit: Json = {kind: {name: amount}}
            for part in reversed((*path, "resources")):
                edit = {part: edit}
            edits[".".join((*path, "resources", kind, name))] = [edit]
    return edits


IN_PODS: dict[str, list[Json]] = {
    "model.uri": [{"model": {"uri": "hf://a/c"}}],
    "model.revision": [{"model": {"revision": "v2"}}],
    "model.include": [{"model": {"include": ["*.gguf"]}}],
    "model.expectedFormat": [{"model": {"expectedFormat": "GGUF"}}],
    "model.secretRef.name": [{"model": {"secretRef": {"name": "token"}}}],
    "model.trustRemoteCode": [{"model": {"trustRemoteCode": True}}],
    "task": [{"task": "Completion"}],
    "engine.type": [{"engine": {"type": "LlamaCpp"}}],
    "engine.args": [{"engine": {"args": ["--mlock"]}}],
    "engine.env": [{"engine": {"env": [{"name": "A", "value": "b"}]}}],
    "engine.image": [{"engine": {"image": "mine:1"}}],
    "engine.progressSeconds": [{"engine": {"progressSeconds": 61}}],
    "engine.loadSeconds": [{"engine": {"loadSeconds": 601}}],
    "contextTokens": [{"contextTokens": 512}],
    "accelerator.count": [{"accelerator": {"count": 1}}],
    "accelerator.memory": [{"accelerator": {"memory": "23Gi"}}],
    "accelerator.resourceName": [{"accelerator": {"resourceName": "nvidia.com/gpu"}}],
    **amounts(),
    **amounts("prepare"),
    "serviceAccountName": [{"serviceAccountName": "default"}],
    "cache.type": [directory("/models/a")],
    "cache.hostPath.path": [directory("/models/b")],
    "cache.prune": [{"cache": {**directory("/models/b")["cache"], "prune": "Never"}}],
    "podTemplate.metadata.labels": [{"podTemplate": {"metadata": {"labels": {"a": "b"}}}}],
    "podTemplate.metadata.annotations": [{"podTemplate": {"metadata": {"annotations": {"a": "b"}}}}],
    "podTemplate.spec": [{"podTemplate": {"spec": {"nodeSelector": {"pool": "a"}}}}],
    "endpoint.maxQueuedRequests": [{"endpoint": {"maxQueuedRequests": 7}}],
    "endpoint.drainSeconds": [{"endpoint": {"drainSeconds": 7}}],
    "cache.persistentVolumeClaim.claimName": [claim(claimName="a"), claim(claimName="b")],
}
"""Field -> edits of which the last one changes it alone. Each is made on top of those before it."""
SCALING = ("minReplicas", "maxReplicas", "idleSeconds", "scaleDownSeconds")
OF_OTHER_MODELS: dict[str, Json] = {"engine.loadQuantization": {"engine": {"loadQuantization": "BitsAndBytesInt8"}}}
"""Field -> an edit that no GGUF, as it is served here, is planned with."""
SQL, LAW = ({"name": name, "uri": f"hf://a/{name}"} for name in ("sql", "law"))
LIVE: dict[str, Json] = {
    "adapters": {"adapters": [SQL, LAW]},
    "replicas": {"replicas": 0},
    "endpoint.access": {"endpoint": {"access": "Direct"}},
    "rollout.upgradePolicy": {"rollout": {"upgradePolicy": "Follow"}},
    "cache.persistentVolumeClaim.size": claim(size="3Gi"),
    "cache.persistentVolumeClaim.storageClassName": claim(size="3Gi", storageClassName="fast"),
    "cache.persistentVolumeClaim.accessModes": claim(size="3Gi", accessModes=["ReadWriteMany"]),
    **{f"scaling.{name}": {"scaling": {name: 2, "maxReplicas": 2}} for name in SCALING},
    "scaling.mode": {"scaling": {"mode": "Fixed", "maxReplicas": 2}},
    "scaling.schedules": {
        "scaling": {"maxReplicas": 2, "schedules": [{"start": "0 8 * * *", "end": "0 9 * * *", "replicas": 2}]}
    },
    "scaling.target.requestsPerReplica": {"scaling": {"maxReplicas": 2, "target": {"requestsPerReplica": 3}}},
    "scaling.dryRun": {"scaling": {"mode": "Managed", "dryRun": True, "maxReplicas": 2}},
}


class Edited:
    """A served service whose spec is edited."""

    def __init__(self, work: Work, client: Client, key: tuple[str, str], clock: Clock) -> None:
        self.work, self.client, self.key, self.clock = work, client, key, clock

    async def edit(self, change: Json) -> Json:
        """Merge into the spec, but for the cache, which is replaced; then the Deployment that follows from it."""
        self.clock.now += 10  # as fast as a person edits: more than that is slowed down
        live = await self.client.get(LLM_SERVICE, *self.key)
        assert live is not None
        kept = {name: value for name, value in live["spec"].items() if name != "cache" or name not in change}
        await self.client.replace({**live, "spec": _merged(kept, change)})
        await settle(self.work, self.client, self.key[0])
        deployment = await self.client.get(DEPLOYMENT, *self.key)
        assert deployment is not None
        return deployment

    async def adapters(self) -> Json:
        """The ConfigMap that tells replicas of them."""
        found = await self.client.get(CONFIG_MAP, self.key[0], f"{self.key[1]}-adapters")
        assert found is not None
        return found

    async def looked(self) -> list[str]:
        """Which of its versions each replica was told to look at."""
        pods = (await self.client.list(POD, self.key[0], labels=selector(serving(self.key[1])))).items
        return [pod["metadata"].get("annotations", {}).get(ADAPTERS_SEEN, "") for pod in pods]

    async def revisions(self) -> set[str]:
        listed = (await self.client.list(CONTROLLER_REVISION, self.key[0])).items
        return {revision["metadata"]["name"] for revision in listed}


async def served(access: Access, client: Client, namespace: str, **spec: Any) -> Edited:
    key = await make(client, namespace, **spec)
    work = work_in(access, client, namespace, INSTALLATION)
    work._nodes.kinds = (*NODES, GPU_NODE)
    clock = in_time(work)
    await settle(work, client, namespace)
    return Edited(work, client, key, clock)


def test_every_field_is_edited_here() -> None:
    split = dict(fields(LLMServiceSpec))
    assert set(LIVE) == {path for path, live in split.items() if live}
    assert {*IN_PODS, *OF_OTHER_MODELS} == {path for path, live in split.items() if not live}


def test_what_other_models_are_planned_with_is_in_pods_too() -> None:
    model = {"model": {"uri": "hf://a/b"}}
    before = in_pods(LLMServiceSpec.model_validate(model))
    for path, change in OF_OTHER_MODELS.items():
        assert in_pods(LLMServiceSpec.model_validate(model | change)) != before, path


async def test_a_live_field_restarts_nothing(access: Access, client: Client, namespace: str) -> None:
    service = await served(access, client, namespace, adapters=[SQL], **claim(size="2Gi"))
    before, revisions = await service.edit({}), await service.revisions()
    for path, change in LIVE.items():
        after = await service.edit(change)
        assert after["spec"]["template"] == before["spec"]["template"], path
        assert await service.revisions() == revisions, path
        if path == "adapters":
            assert await service.looked() == [file_digest(await service.adapters())], "pods are to look at it now"
    kept = parse_adapters((await service.adapters())["data"]["adapters.json"])
    assert [adapter.name for adapter in kept] == ["law", "sql"]
    made = await client.get(CLAIM, namespace, f"{service.key[1]}-models")
    assert made is not None and after["spec"]["replicas"] == 0


async def test_any_other_field_rolls(access: Access, client: Client, namespace: str) -> None:
    service = await served(access, client, namespace)
    for path, changes in IN_PODS.items():
        for change in changes:
            before = (await service.edit({}))["spec"]["template"]["metadata"]["labels"][REVISION]
            after = (await service.edit(change))["spec"]["template"]["metadata"]["labels"][REVISION]
        assert after != before, path


def _merged(base: Json, change: Json) -> Json:
    both = {n: _merged(base[n], v) for n, v in change.items() if isinstance(v, dict) and isinstance(base.get(n), dict)}
    return {**base, **change, **both}
