"""Pod templates, claims and scaling on the real API server: what it takes, what it refuses and in which words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from live_world import settled  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CLAIM, DEPLOYMENT, JOB, LLM_SERVICE, POD, Json, Kind
from llmservice_kube.login import Access
from llmservice_operator.control.health import Health
from llmservice_operator.control.passes import StillRefused
from llmservice_operator.control.work import Scope, Work
from llmservice_operator.diagnosis.refusal import way_out
from llmservice_operator.facts.config import ConfigMapKey, OperatorConfig, RuntimeImage
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.prepare.report import Prepared

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
from core_world import FACTS  # type: ignore[import-not-found]

CONFIG = OperatorConfig(
    (RuntimeImage("r:1", (EngineType.LLAMA_CPP,)),),
    "llm",
    image_pull_secrets=("pull",),
    ca_bundle=ConfigMapKey("corporate", "ca.crt"),
    host_paths=("/var/lib/models",),
)
RICH: Json = {
    "metadata": {"labels": {"team": "a"}, "annotations": {"sidecar.istio.io/inject": "false"}},
    "spec": {
        "imagePullSecrets": [{"name": "mine"}],
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "securityContext": {"runAsUser": 1000, "seccompProfile": None},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                    ]
                }
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"},
            {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
        ],
        "volumes": [{"name": "data", "configMap": {"name": "data", "defaultMode": 420}}],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
        "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "runtime",
                "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                "envFrom": [{"configMapRef": {"name": "proxy", "optional": True}}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "resources": {"claims": [{"name": "gpu"}], "limits": {"ephemeral-storage": "9000Mi"}},
                "startupProbe": {"timeoutSeconds": 9},
            },
            {"name": "side", "image": "side:1", "ports": [{"containerPort": 9000}]},
        ],
    },
}


class Shop:
    """An operator without loops, and the hands of controllers and kubelets."""

    def __init__(self, access: Access, client: Client, namespace: str) -> None:
        self.client = client
        self.key = (namespace, "qwen")
        self.work = Work(access, client, CONFIG, Scope((namespace,)), Health(1e9))

    async def write(self, **spec: Any) -> None:
        """Create the service, or edit its spec."""
        namespace, name = self.key
        body = {"model": {"uri": "file:///models/demo.gguf"}, **spec}
        if (live := await self.client.get(LLM_SERVICE, namespace, name)) is not None:
            await self.client.replace({**live, "spec": {**live["spec"], **body}})
            return
        meta = {"name": name, "namespace": namespace}
        await self.client.create(
            {"apiVersion": LLM_SERVICE.api_version, "kind": "LLMService", "metadata": meta, "spec": body}
        )

    async def look(self) -> dict[str, Json]:
        """Passes until nothing is written; the conditions by type."""
        await self.work.relist()
        with contextlib.suppress(StillRefused):
            await settled(self.work, self.key)
        live = await self.client.get(LLM_SERVICE, *self.key)
        assert live is not None
        return {entry["type"]: entry for entry in live["status"]["conditions"]}

    async def prepared(self) -> None:
        """Every Job that is not done succeeds."""
        for job in (await self.client.list(JOB, self.key[0])).items:
            if job.get("status", {}).get("conditions"):
                continue
            name, template = job["metadata"]["name"], job["spec"]["template"]
            labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
            meta = {"name": name, "namespace": self.key[0], "labels": labels}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
            report = Prepared(FACTS, "c0ffee", "/cache/m.gguf").to_json()
            ended = {"exitCode": 0, "reason": "Completed", "message": report}
            step = {"name": template["spec"]["containers"][0]["name"], "state": {"terminated": ended}}
            step |= {"image": "r:1", "imageID": "", "ready": False, "restartCount": 0}
            await self._status(
                POD, await self.client.create(pod) or {}, {"phase": "Succeeded", "containerStatuses": [step]}
            )
            at = "2026-01-01T00:00:00Z"
            done = [
                {"type": kind, "status": "True", "lastTransitionTime": at}
                for kind in ("SuccessCriteriaMet", "Complete")
            ]
            await self._status(JOB, job, {"startTime": at, "completionTime": at, "succeeded": 1, "conditions": done})

    async def _status(self, kind: Any, obj: Json, status: Json) -> None:
        path = kind.path(self.key[0], obj["metadata"]["name"], "status")
        await self.client.send("patch", kind, path, body={"status": status})


@pytest.fixture
async def shop(access: Access, client: Client, namespace: str) -> AsyncIterator[Shop]:
    yield Shop(access, client, namespace)


async def test_a_rich_pod_template_is_taken_and_written_once(shop: Shop) -> None:
    await shop.write(podTemplate=RICH, accelerator={"count": 0})
    await shop.look()
    await shop.prepared()
    assert (await shop.look())["Planned"]["status"] == "True"
    live = await shop.client.get(DEPLOYMENT, *shop.key)
    assert live is not None
    pod = live["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "pull"}, {"name": "mine"}]
    assert (pod["priorityClassName"], pod["runtimeClassName"], pod["schedulerName"]) == ("high", "nvidia", "volcano")
    assert pod["securityContext"]["runAsUser"] == 1000
    assert "seccompProfile" not in pod["securityContext"], "null removes a default of ours"
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert [constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "zone",
    ]
    await shop.look()
    assert await shop.client.get(DEPLOYMENT, *shop.key) == live, "what is as wanted is not written again"


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ({"tolerations": [{"key": "a", "operator": "Sometimes"}]}, "spec.podTemplate.spec.tolerations[0].operator"),
        ({"affinity": {"nodeAfinity": {"a": "b"}}}, "spec.podTemplate.spec.affinity.nodeAfinity"),
        ({"priorityClassName": 5}, "spec.podTemplate.spec.priorityClassName"),
        ({"containers": [{"name": "side"}]}, "spec.podTemplate.spec.containers[1].image"),
        ({"volumes": [{"name": "x y"}]}, "spec.podTemplate.spec.volumes"),
    ],
)
async def test_what_the_server_refuses_is_told_with_its_field_and_what_runs_stays(
    shop: Shop, pod: Json, said: str
) -> None:
    await shop.write()
    await shop.look()
    await shop.prepared()
    await shop.look()
    before = await shop.client.get(DEPLOYMENT, *shop.key)
    await shop.write(podTemplate={"spec": pod})
    conditions = await shop.look()
    assert conditions["Progressing"]["reason"] == "WriteRefused", conditions
    assert said in conditions["Progressing"]["message"]
    after = await shop.client.get(DEPLOYMENT, *shop.key)
    assert before is not None and after is not None
    assert after["spec"] == before["spec"]
    await shop.write(podTemplate={"spec": {"priorityClassName": "high"}})
    assert (await shop.look())["Progressing"]["reason"] != "WriteRefused", "an edit mends it"


async def test_a_claim_is_made_and_one_of_a_single_node_is_not_scaled(shop: Shop) -> None:
    namespace, name = shop.key
    uri = {"uri": "hf://a/b"}
    cache = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "2Gi"}}
    await shop.write(model=uri, cache=cache)
    await shop.look()
    claim = await shop.client.get(CLAIM, namespace, f"{name}-models")
    assert claim is not None
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    await shop.prepared()
    await shop.look()
    fetch = [job for job in (await shop.client.list(JOB, namespace)).items if "-fetch-" in job["metadata"]["name"]]
    assert len(fetch) == 1
    assert await shop.client.get(DEPLOYMENT, *shop.key) is None
    await shop.prepared()
    await shop.look()
    assert await shop.client.get(DEPLOYMENT, *shop.key) is not None
    path = LLM_SERVICE.path(namespace, name, "scale")
    with pytest.raises(ApiError, match="tie all replicas to one node") as caught:
        await shop.client.send("patch", LLM_SERVICE, path, body={"spec": {"replicas": 2}})
    assert caught.value.refused


async def test_the_way_out_of_a_storage_class_that_is_missing_ends_well(shop: Shop) -> None:
    """A claim's class can't be changed: what the message says has to be done in both places."""
    namespace, name = shop.key

    def cache(storage: str) -> Json:
        made = {"size": "2Gi", "storageClassName": storage}
        return {"type": "PersistentVolumeClaim", "persistentVolumeClaim": made}

    await shop.write(model={"uri": "hf://a/b"}, cache=cache("no-such-class"))
    await shop.look()
    await shop.write(model={"uri": "hf://a/b"}, cache=cache("standard"))
    ready = (await shop.look())["Ready"]
    assert ready["reason"] == "WriteRefused"
    assert "Delete the claim" in ready["message"]
    claim = await shop.client.get(CLAIM, namespace, f"{name}-models")
    assert claim is not None
    free = {"metadata": {"finalizers": None}}  # the controller's part: nothing uses it
    await shop.client.send("patch", CLAIM, CLAIM.path(namespace, f"{name}-models"), body=free)
    await shop.client.delete(CLAIM, namespace, f"{name}-models", claim["metadata"]["uid"])
    assert (await shop.look())["Ready"]["reason"] != "WriteRefused"
    claim = await shop.client.get(CLAIM, namespace, f"{name}-models")
    assert claim is not None and claim["spec"]["storageClassName"] == "standard"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"engine": {"image": "mine:1"}}, "Name the engine in type"),
        ({"cache": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {}}}, "give the size"),
        (
            {"cache": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "a", "size": "1Gi"}}},
            "which claim is meant",
        ),
        ({"cache": {"type": "HostPath"}}, "say which directory in hostPath.path"),
        ({"cache": {"type": "EmptyDir", "hostPath": {"path": "/models"}}}, "type and hostPath contradict"),
        *(
            ({"cache": {"type": "HostPath", "hostPath": {"path": path}}}, "spec.cache.hostPath.path")
            for path in ("models", "/", "/models/", "/var//models", "/a b", "/var/../etc", "/./a", "/a/.", "")
        ),
        ({"rollout": {"upgradePolicy": "Never"}}, "spec.rollout.upgradePolicy"),
        ({"podTemplate": {"metadata": {"labels": {"a": "x" * 64}}}}, "spec.podTemplate.metadata.labels"),
        ({"podTemplate": {"spec": ["x"]}}, "spec.podTemplate.spec"),
    ],
)
async def test_what_can_be_told_at_once_is_refused_at_admission(shop: Shop, spec: Json, said: str) -> None:
    with pytest.raises(ApiError, match=said):
        await shop.write(**spec)


NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
HF = {"uri": "hf://a/b"}
NODE = {"type": "HostPath", "hostPath": {"path": "/var/lib/models"}}
CACHES: tuple[Json, ...] = (
    {"type": "EmptyDir"},
    NODE,
    {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}},
    NODE,
    {"type": "EmptyDir"},
)


async def test_a_running_service_takes_another_kind_of_cache(shop: Shop) -> None:
    sources = []
    for cache in CACHES:
        live = await shop.client.get(LLM_SERVICE, *shop.key)
        if live is not None:  # `write` keeps what it does not name, here the claim or directory of before
            await shop.client.replace({**live, "spec": {"model": HF, "cache": cache}})
        else:
            await shop.write(model=HF, cache=cache)
        await shop.look()
        await shop.prepared()
        await shop.look()
        await shop.prepared()
        conditions = await shop.look()
        assert conditions["Progressing"]["reason"] != "WriteRefused", conditions
        deployment = await shop.client.get(DEPLOYMENT, *shop.key)
        assert deployment is not None
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        sources += [sorted(set(volume) - {"name"}) for volume in volumes if volume["name"] == "cache"]
    assert sources == [["emptyDir"], ["hostPath"], ["persistentVolumeClaim"], ["hostPath"], ["emptyDir"]]


@pytest.mark.parametrize("level", ["baseline", "restricted"])
async def test_a_namespace_without_node_directories_refuses_in_words_that_have_a_way_out(
    shop: Shop, level: str
) -> None:
    await shop.write(model=HF, cache=NODE)
    await shop.look()
    await shop.prepared()
    await shop.look()
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}
    await shop.client.send("patch", NAMESPACE, NAMESPACE.path(None, shop.key[0]), body=enforce)
    deployment = await shop.client.get(DEPLOYMENT, *shop.key)
    assert deployment is not None
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "replica", "namespace": shop.key[0]},
        "spec": deployment["spec"]["template"]["spec"],
    }
    with pytest.raises(ApiError, match="violates PodSecurity") as caught:
        await shop.client.create(pod)
    assert "hostPath" in way_out(str(caught.value)) and "privileged" in way_out(str(caught.value))
    await shop.client.create({**pod, "spec": {**pod["spec"], "volumes": _without_directory(pod["spec"]["volumes"])}})


def _without_directory(volumes: list[Json]) -> list[Json]:
    """The directory is all that the level refuses."""
    return [{"name": "cache", "emptyDir": {}} if volume["name"] == "cache" else volume for volume in volumes]
