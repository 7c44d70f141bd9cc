"""What a cluster's controllers and kubelets do, without any: Jobs report the model's facts, Deployments get ready pods.

The API server alone runs nothing. Here a Job's pod ends at once with the facts in its termination message, which is
all that the operator ever learns of a model, and a Deployment's pods are ready as soon as they are there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp

from llmservice_api.labels import NAME, REVISION
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import DEPLOYMENT, JOB, POD, Json, Kind
from llmservice_kube.login import Access
from llmservice_kube.sockets import Sockets
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.formats.lora_facts import LoraFacts, LoraFormat
from llmservice_runtime.prepare.report import Prepared

FACTS = ModelFacts(
    format=ModelFormat.GGUF,
    architecture="llama",
    model_type="llama",
    task=Task.CHAT,
    quantization=Quantization("gguf", "Q4_K_M", 4.9),
    dtype="F16",
    parameters=8_030_261_248,
    context_tokens=8192,
    layers=(LayerGroup(LayerKind.FULL, 32, 8, 128, 128),),
    hidden_size=4096,
    attention_heads=32,
    vocab_size=128256,
    weight_bytes=4_912_898_304,
    layer_weight_bytes=(130_000_000,) * 32,
    files=("model-Q4_K_M.gguf",),
    file_bytes=4_920_739_232,
    has_chat_template=True,
    has_tokenizer=True,
)
PREPARED = Prepared(FACTS, "c0ffee", "/cache/models/hf/a--b/c0ffee/model-Q4_K_M.gguf")
"""What every Job reports unless told otherwise."""
_LORA = LoraFacts(LoraFormat.PEFT, "a/b", "", 8, (), 1, 1 << 20, ("adapter_model.safetensors",), 1 << 20)
ADAPTER = json.dumps({"revision": "c1", "path": "", "facts": json.loads(_LORA.to_json())})
"""What every Job reports that reads an adapter."""
ATONCE = 8
"""Objects that are worked on at a time."""


async def watch(access: Access, kind: Kind, labels: str = NAME) -> AsyncIterator[Json]:
    """Objects of a kind as they are and as they become, of all namespaces; deletions are not told."""
    async with Client(access) as client, _session(access) as session:
        listing = await client.list(kind, labels=labels)
        for obj in listing.items:
            yield obj
        query = {"watch": "1", "labelSelector": labels, "resourceVersion": listing.resource_version}
        request = session.get(
            access.server + kind.path(),
            params=query,
            headers={"Authorization": await access.authorization() or ""},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        async with request as response:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield {"apiVersion": kind.api_version, "kind": kind.kind, **event["object"]}


@asynccontextmanager
async def _session(access: Access) -> AsyncIterator[aiohttp.ClientSession]:
    """For a watch, that is cancelled in the middle of a read."""
    sockets = Sockets()
    connector = aiohttp.TCPConnector(ssl=access.ssl_context(), socket_factory=sockets.make)
    try:
        async with aiohttp.ClientSession(connector=connector, read_bufsize=1 << 24) as session:
            yield session
    finally:
        await sockets.gone()


class Controllers:
    """They run while the block of `running` does."""

    def __init__(self, access: Access, report: str | None = None) -> None:
        self._access = access
        self._report = report if report is not None else PREPARED.to_json()
        self._busy = asyncio.Semaphore(ATONCE)
        self.deployed: dict[tuple[str, str], tuple[str, float]] = {}
        """(revision, monotonic time) that each Deployment was last seen to change its revision."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Controllers]:
        """Play them until left; what fails in them fails the block."""
        async with Client(self._access) as client, asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._jobs(client, tasks)),
                tasks.create_task(self._deployments(client, tasks)),
            ]
            yield self
            for loop in loops:
                loop.cancel()

    async def _jobs(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        seen = set()
        async for job in watch(self._access, JOB):
            if job["metadata"]["uid"] not in seen and not job.get("status", {}).get("conditions"):
                seen.add(job["metadata"]["uid"])
                tasks.create_task(self.run_job(client, job))

    async def play(self, client: Client, namespace: str) -> bool:
        """Do once what is to do in a namespace, without watching. False when there was nothing."""
        jobs = [job for job in (await client.list(JOB, namespace)).items if not job.get("status", {}).get("conditions")]
        for job in jobs:
            await self.run_job(client, job)
        deployments = [each for each in (await client.list(DEPLOYMENT, namespace)).items if not _observed(each)]
        for deployment in deployments:
            await self.roll_out(client, deployment)
        return bool(jobs or deployments)

    async def run_job(self, client: Client, job: Json) -> None:
        """Its pod ends with the report, then the Job is complete."""
        async with self._busy:
            name, now = job["metadata"]["name"], _now()
            pod = pod_of(job, f"{name}-{job['metadata']['uid'][:5]}", {"batch.kubernetes.io/job-name": name})
            report = ADAPTER if _container(pod)["name"] == "adapter" else self._report
            ended = {"exitCode": 0, "reason": "Completed", "message": report, "finishedAt": now, "startedAt": now}
            container = {**_container(pod), "ready": False, "state": {"terminated": ended}}
            await client.create(pod)
            await set_status(client, POD, pod, {"phase": "Succeeded", "containerStatuses": [container]})
            conditions = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
            done = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
            await set_status(client, JOB, job, done)

    async def _deployments(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        async for deployment in watch(self._access, DEPLOYMENT):
            metadata = deployment["metadata"]
            key = metadata["namespace"], metadata["name"]
            revision = deployment["spec"]["template"]["metadata"]["labels"].get(REVISION, "")
            if self.deployed.get(key, ("", 0.0))[0] != revision:
                self.deployed[key] = revision, time.monotonic()
            if not _observed(deployment):
                tasks.create_task(self.roll_out(client, deployment))

    async def roll_out(self, client: Client, deployment: Json) -> None:
        """Ready pods of its template, and none of another."""
        async with self._busy:
            metadata, wanted = deployment["metadata"], int(deployment["spec"]["replicas"])
            revision = deployment["spec"]["template"]["metadata"]["labels"].get(REVISION, "")
            names = {f"{revision}-{number}" for number in range(wanted)}
            selector = ",".join(f"{k}={v}" for k, v in deployment["spec"]["selector"]["matchLabels"].items())
            there = {pod["metadata"]["name"]: pod for pod in await self._pods(client, metadata["namespace"], selector)}
            for name in sorted(names - there.keys()):
                pod = pod_of(deployment, name, {})
                await client.create(pod)
                container = {**_container(pod), "ready": True, "state": {"running": {"startedAt": _now()}}}
                conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]
                status = {"phase": "Running", "containerStatuses": [container], "conditions": conditions}
                await set_status(client, POD, pod, status)
            counts: Json = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted)
            conditions = [{"type": kind, "status": "True"} for kind in ("Available", "Progressing")]
            status = counts | {"observedGeneration": metadata["generation"], "conditions": conditions}
            await set_status(client, DEPLOYMENT, deployment, status)
            for name in sorted(there.keys() - names):
                await delete_now(client, metadata["namespace"], name)

    async def _pods(self, client: Client, namespace: str, selector: str) -> list[Json]:
        return (await client.list(POD, namespace, labels=selector)).items


def pod_of(parent: Json, name: str, labels: dict[str, str]) -> Json:
    """A pod of a Job's or Deployment's template, on a node."""
    template, metadata = parent["spec"]["template"], parent["metadata"]
    owner = {"apiVersion": parent["apiVersion"], "kind": parent["kind"], "name": metadata["name"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**template["metadata"]["labels"], **labels},
            "ownerReferences": [{**owner, "uid": metadata["uid"], "controller": True}],
        },
        "spec": {**template["spec"], "nodeName": "node-0"},
    }


async def delete_now(client: Client, namespace: str, name: str) -> None:
    """Without a pod's grace. One that is gone is: two changes of a Deployment in a row roll it out side by side."""
    try:
        await client.send("delete", POD, POD.path(namespace, name), body={"gracePeriodSeconds": 0})
    except ApiError as error:
        if not error.missing:
            raise


async def set_status(client: Client, kind: Kind, obj: Json, status: Json) -> Json:
    """Write the status subresource as its controller would."""
    path = kind.path(obj["metadata"]["namespace"], obj["metadata"]["name"], "status")
    return await client.send("patch", kind, path, {"fieldManager": "controllers"}, {"status": status})


def _observed(deployment: Json) -> bool:
    return bool(deployment.get("status", {}).get("observedGeneration") == deployment["metadata"]["generation"])


def _container(pod: Json) -> dict[str, Any]:
    first = pod["spec"]["containers"][0]
    return {"name": first["name"], "image": first["image"], "imageID": "", "restartCount": 0}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
