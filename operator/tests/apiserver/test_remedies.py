"""What status says to do about a refusal, done, makes the service Ready: on the real API server's own refusals."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_controllers import Controllers, set_status  # type: ignore[import-not-found]
from live_world import CONFIG, edit, make, one_pass, work_in, written  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CLAIM, DEPLOYMENT, LLM_SERVICE, SERVICE_ACCOUNT, Json, Kind
from llmservice_kube.login import Access, login
from llmservice_operator.facts.config import RuntimeImage
from llmservice_operator.facts.nodes import NodeKind
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.machine.machine import Device

QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
LIMITS = Kind("", "v1", "LimitRange", "limitranges")
PRIORITY = Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
POLICY = Kind(
    "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
BINDING = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)
EVENT = Kind("", "v1", "Event", "events")
DIRECTORY = "/var/lib/models"
NODE = {"type": "HostPath", "hostPath": {"path": DIRECTORY}}
MADE = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "20Gi"}}


class Telling(Controllers):  # type: ignore[misc]
    """Controllers that tell what the API server refused them, as the real ones do."""

    async def run_job(self, client: Client, job: Json) -> None:
        try:
            await super().run_job(client, job)
        except ApiError as error:
            metadata, now = job["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            about = {"kind": "Job", "namespace": metadata["namespace"], "name": metadata["name"]}
            said = {"reason": "FailedCreate", "message": f"Error creating: {error.message}", "lastTimestamp": now}
            event = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": "job-", "namespace": metadata["namespace"]},
                "involvedObject": {**about, "uid": metadata["uid"]},
                **said,
            }
            await client.send("create", EVENT, EVENT.path(metadata["namespace"]), body=event)

    async def roll_out(self, client: Client, deployment: Json) -> None:
        try:
            await super().roll_out(client, deployment)
        except ApiError as error:
            failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": error.message}
            generation = deployment["metadata"]["generation"]
            await set_status(client, DEPLOYMENT, deployment, {"conditions": [failed], "observedGeneration": generation})


class Town:
    """A namespace with one service, its operator and its controllers."""

    def __init__(self, access: Access, client: Client, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.key = (namespace, "qwen")
        images = (*CONFIG.images, RuntimeImage("runtime:cuda", (EngineType.LLAMA_CPP,), (Device.NVIDIA,)))
        self.work = work_in(
            access, client, namespace, dataclasses.replace(CONFIG, images=images, host_paths=(DIRECTORY,))
        )
        self.controllers = Telling(access)

    async def settle(self) -> Json:
        """Passes and controllers until neither does anything more; the Ready condition.

        What was refused is tried again, as the real controllers do.
        """
        for _ in range(12):
            before = written(self.client)
            await one_pass(self.work)
            with contextlib.suppress(ApiError):
                await self.controllers.play(self.client, self.namespace)
            await self._try_again()
            ready = await self.condition()
            if ready["reason"] == "Ready" or written(self.client) == before:
                return ready
        return ready

    async def _try_again(self) -> None:
        """A Deployment whose pods were refused is looked at anew."""
        for deployment in (await self.client.list(DEPLOYMENT, self.namespace)).items:
            if any(c["type"] == "ReplicaFailure" for c in deployment.get("status", {}).get("conditions", ())):
                await self.controllers.roll_out(self.client, deployment)

    async def condition(self, kind: str = "Ready") -> Json:
        live = await self.client.get(LLM_SERVICE, *self.key)
        assert live is not None
        return next(entry for entry in live["status"]["conditions"] if entry["type"] == kind)

    async def quota(self, **hard: str) -> None:
        """A quota as its controller would have counted it in an empty namespace; written again, it is another."""
        amounts = {name.replace("__", "."): value for name, value in hard.items()}
        if (old := await self.client.get(QUOTA, self.namespace, "tight")) is not None:
            await self.client.delete(QUOTA, self.namespace, "tight", old["metadata"]["uid"])
        body = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": self._named("tight"),
            "spec": {"hard": amounts},
        }
        quota = await self.client.send("create", QUOTA, QUOTA.path(self.namespace), body=body)
        used = {"hard": amounts, "used": dict.fromkeys(amounts, "0")}
        path = QUOTA.path(self.namespace, "tight", "status")
        await self.client.send("patch", QUOTA, path, body={"status": used})
        assert quota is not None

    async def limit(self, **limits: Any) -> None:
        """A LimitRange; without limits the one that is there goes."""
        if (old := await self.client.get(LIMITS, self.namespace, "narrow")) is not None:
            await self.client.delete(LIMITS, self.namespace, "narrow", old["metadata"]["uid"])
        if limits:
            item = {"type": "Container", **limits}
            body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": self._named("narrow")}
            spec = {"spec": {"limits": [item]}}
            await self.client.send("create", LIMITS, LIMITS.path(self.namespace), body=body | spec)

    async def level(self, level: str) -> None:
        enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}
        await self.client.send("patch", NAMESPACE, NAMESPACE.path(None, self.namespace), body=enforce)

    def _named(self, name: str) -> Json:
        return {"name": name, "namespace": self.namespace}


@pytest.fixture
async def town(access: Access, client: Client, namespace: str) -> Town:
    return Town(access, client, namespace)


Step = Callable[[Town], Awaitable[None]]


def quota(**hard: str) -> Step:
    return lambda town: town.quota(**hard)


def limit(**limits: Any) -> Step:
    return lambda town: town.limit(**limits)


def level(name: str) -> Step:
    return lambda town: town.level(name)


def spec(**fields: Any) -> Step:
    return lambda town: edit(town.client, town.key, **fields)


async def gpus(town: Town) -> None:
    """Nodes with two GPUs, and an image for them."""
    town.work._nodes.kinds = (NodeKind(16, 64 << 30, "amd64", (("nvidia.com/gpu", 2),), "NVIDIA-L4"),)


async def account(town: Town) -> None:
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "someone", "namespace": town.namespace}}
    await town.client.create(body)


async def priority(town: Town) -> None:
    body = {"apiVersion": PRIORITY.api_version, "kind": PRIORITY.kind, "metadata": {"name": "high"}, "value": 1000}
    await town.client.send("create", PRIORITY, PRIORITY.path(), body=body)


def prepare(**resources: Any) -> Step:
    return spec(prepare={"resources": resources})


def replica(**resources: Any) -> Step:
    return spec(resources=resources)


async def policy(town: Town) -> None:
    """No replica without a memory limit."""
    name = town.namespace
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    limited = "object.spec.template.spec.containers.all(c, has(c.resources.limits) && 'memory' in c.resources.limits)"
    body = {"apiVersion": POLICY.api_version, "kind": POLICY.kind, "metadata": {"name": name}}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": limited, "message": "say a memory limit"}],
    }
    await town.client.send("create", POLICY, POLICY.path(), body=body | {"spec": spec})
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    bound = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    body = {"apiVersion": BINDING.api_version, "kind": BINDING.kind, "metadata": {"name": name}, "spec": bound}
    await town.client.send("create", BINDING, BINDING.path(), body=body)
    await _until(town, denied=True)


async def policy_changed(town: Town) -> None:
    body = {"spec": {"validationActions": ["Audit"]}}
    await town.client.send("patch", BINDING, BINDING.path(None, town.namespace), body=body)
    await _until(town, denied=False)


async def _until(town: Town, *, denied: bool) -> None:
    """A policy counts some time after it was written, and nothing but a refusal tells when."""
    container = {"name": "c", "image": "i:1"}
    labels = {"app": "probe"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "probe", "namespace": town.namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    async with asyncio.timeout(60):
        while True:
            try:
                await town.client.apply(body, dry_run=True)
                found = False
            except ApiError as error:
                found = "denied" in error.message
            if found is denied:
                return
            await asyncio.sleep(0.1)


ROOT = {"spec": {"containers": [{"name": "runtime", "securityContext": {"allowPrivilegeEscalation": True}}]}}
ENOUGH = {"cpu": "2", "memory": "16Gi"}

Case = tuple[str, list[Step], Json, list[tuple[str, Step]]]
CASES: list[Case] = [
    (
        "a quota on limits is met by what the Jobs say, and by spec.resources",
        [quota(limits__cpu="8", limits__memory="64Gi")],
        {},
        [("set limits.cpu, limits.memory in spec.resources", replica(limits=ENOUGH))],
    ),
    (
        "a quota on the node's disk",
        [quota(**{"requests__ephemeral-storage": "10Gi"})],
        {"resources": {"requests": {"ephemeral-storage": "20Gi"}}},
        [("Ask for less in spec.resources", replica(requests={"ephemeral-storage": "9Gi"}))],
    ),
    (
        "a container of somebody else that says nothing",
        [quota(limits__memory="64Gi")],
        {"resources": {"limits": ENOUGH}, "podTemplate": {"spec": {"containers": [{"name": "side", "image": "s:1"}]}}},
        [
            (
                "limits.memory in the container side",
                spec(
                    podTemplate={
                        "spec": {
                            "containers": [
                                {"name": "side", "image": "s:1", "resources": {"limits": {"memory": "64Mi"}}}
                            ]
                        }
                    }
                ),
            )
        ],
    ),
    (
        "a quota that the Job exceeds",
        [quota(requests__memory="100Mi")],
        {"resources": {"requests": {"memory": "10Mi"}}},
        [("Ask for less in spec.prepare.resources", prepare(requests={"memory": "32Mi"}))],
    ),
    (
        "a quota that the replica exceeds",
        [quota(requests__memory="1Gi")],
        {},
        [("Ask for less in spec.resources", replica(requests={"memory": "256Mi"}))],
    ),
    (
        "a quota that the replica exceeds, raised",
        [quota(requests__cpu="400m")],
        {},
        [("have the ResourceQuota tight raised", quota(requests__cpu="4"))],
    ),
    (
        "a quota on pods",
        [quota(pods="0")],
        {},
        [
            (
                "Remove what the namespace no longer needs of these, or have the ResourceQuota tight raised",
                quota(pods="9"),
            )
        ],
    ),
    (
        "a quota on Jobs",
        [quota(**{"count/jobs__batch": "0"})],
        {},
        [("have the ResourceQuota tight raised", quota(**{"count/jobs__batch": "9"}))],
    ),
    (
        "a quota on Services",
        [quota(services="0")],
        {},
        [("have the ResourceQuota tight raised", quota(services="9"))],
    ),
    (
        "a quota on storage",
        [quota(requests__storage="10Gi")],
        {"cache": MADE},
        [
            (
                "Ask for less in spec.cache.persistentVolumeClaim.size",
                spec(cache={"persistentVolumeClaim": {"size": "5Gi"}}),
            )
        ],
    ),
    (
        "a quota on accelerators",
        [gpus, quota(**{"requests__nvidia__com/gpu": "1"})],
        {"accelerator": {"count": 2, "resourceName": "nvidia.com/gpu"}},
        [("spec.accelerator.count", spec(accelerator={"count": 1}))],
    ),
    (
        "a LimitRange below what the Job may use",
        [limit(max={"memory": "128Mi"}, default={"memory": "128Mi"})],
        {"resources": {"requests": {"memory": "100Mi"}}},
        [("Ask for no more in spec.prepare.resources", prepare(limits={"memory": "128Mi"}))],
    ),
    (
        "a LimitRange below what the replica may use",
        [limit(max={"memory": "1Gi"})],
        {},
        [("set the limit in spec.resources", limit(max={"memory": "64Gi"}))],
    ),
    (
        "a LimitRange's default limit below the planned request",
        [limit(default={"memory": "128Mi"})],
        {},
        [("set the limit in spec.resources", replica(limits={"memory": "16Gi"}))],
    ),
    (
        "a LimitRange above what the Job asks for",
        [limit(min={"cpu": "300m"})],
        {},
        [("Ask for no less in spec.prepare.resources", prepare(requests={"cpu": "300m"}))],
    ),
    (
        "a LimitRange's ratio",
        [limit(maxLimitRequestRatio={"cpu": "2"})],
        {"resources": {"limits": ENOUGH}},
        [("closer together", prepare(requests={"cpu": "500m"}, limits={"cpu": "1"}))],
    ),
    (
        "a LimitRange on claims",
        [limit(type="PersistentVolumeClaim", max={"storage": "10Gi"})],
        {"cache": MADE},
        [
            (
                "another size in spec.cache.persistentVolumeClaim.size",
                spec(cache={"persistentVolumeClaim": {"size": "9Gi"}}),
            )
        ],
    ),
    ("no such account, made", [], {"serviceAccountName": "someone"}, [("Create the ServiceAccount", account)]),
    (
        "no such account, left out",
        [],
        {"serviceAccountName": "someone"},
        [("leave spec.serviceAccountName out", spec(serviceAccountName=None))],
    ),
    (
        "no such priority, corrected",
        [],
        {"podTemplate": {"spec": {"priorityClassName": "higher"}}},
        [("Correct priorityClassName in spec.podTemplate", spec(podTemplate=None))],
    ),
    (
        "no such priority, made",
        [],
        {"podTemplate": {"spec": {"priorityClassName": "high"}}},
        [("or have the PriorityClass made", priority)],
    ),
    (
        "a directory of the node, in a namespace that is raised",
        [level("baseline")],
        {"cache": NODE},
        [("have the namespace's raised", level("privileged"))],
    ),
    (
        "a directory of the node, given up",
        [level("baseline")],
        {"cache": NODE},
        [("or keep the model on a PersistentVolumeClaim", spec(cache={**MADE, "hostPath": None}))],
    ),
    (
        "an admission policy, followed",
        [policy],
        {},
        [("Change the spec to what the admission policy asks for", replica(limits=ENOUGH))],
    ),
    ("an admission policy, changed", [policy], {}, [("or have the policy changed", policy_changed)]),
    (
        "Pod Security, the spec corrected",
        [level("restricted")],
        {"podTemplate": ROOT},
        [("Correct spec.podTemplate", spec(podTemplate=None))],
    ),
    (
        "Pod Security, the level changed",
        [level("restricted")],
        {"podTemplate": ROOT},
        [("have the namespace's Pod Security level changed", level("privileged"))],
    ),
]


@pytest.mark.parametrize(("what", "before", "said", "ways"), CASES, ids=[case[0] for case in CASES])
async def test_what_the_sentence_says_makes_the_service_ready(
    town: Town, what: str, before: list[Step], said: Json, ways: list[tuple[str, Step]]
) -> None:
    for step in before:
        await step(town)
    await make(town.client, town.namespace, **said)
    for words, way in ways:
        ready = await town.settle()
        assert ready["reason"] == "WriteRefused", ready["message"]
        assert words in ready["message"]
        await way(town)
    ready = await town.settle()
    assert (ready["status"], ready["reason"]) == ("True", "Ready"), ready["message"]


CHART = Path(__file__).resolve().parents[3] / "charts/llmservice/templates"
ROLES = "rbac.authorization.k8s.io/v1"


def rules() -> list[Json]:
    """What the chart's rbac.yaml gives the operator in a namespace."""
    text = (
        (CHART / "_helpers.tpl").read_text().partition('define "llmservice.rules" -}}')[2].partition("{{- end -}}")[0]
    )
    found: list[Json] = yaml.safe_load("\n".join(line for line in text.splitlines() if "{{" not in line))
    return found


async def test_a_right_that_the_operator_lacks_is_given_by_the_charts_rules(
    kubeconfig: Path, access: Access, client: Client, namespace: str, tmp_path: Path
) -> None:
    """An operator that may do all but write Deployments, until it gets what the chart has."""
    role = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
    binding = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
    named = {"name": "operator", "namespace": namespace}
    less = [rule if "deployments" not in rule["resources"] else rule | {"verbs": ["get", "list"]} for rule in rules()]
    await client.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named})
    body: Json = {"apiVersion": ROLES, "kind": "Role", "metadata": named, "rules": less}
    await client.send("create", role, role.path(namespace), body=body)
    subject = {"kind": "ServiceAccount", **named}
    to = {"apiGroup": role.group, "kind": "Role", "name": "operator"}
    body = {"apiVersion": ROLES, "kind": "RoleBinding", "metadata": named, "roleRef": to, "subjects": [subject]}
    await client.send("create", binding, binding.path(namespace), body=body)
    path = SERVICE_ACCOUNT.path(namespace, "operator", "token")
    token = await client.send("create", SERVICE_ACCOUNT, path, body={"spec": {}})
    config = json.loads(kubeconfig.read_text())  # noqa: ASYNC240 - a small local file
    config["users"][0]["user"] = {"token": token["status"]["token"]}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    async with Client(await login(str(tmp_path / "kubeconfig"))) as own:
        town = Town(access, client, namespace)
        town.work = work_in(access, own, namespace)
        await make(client, namespace)
        ready = await town.settle()
        assert ready["reason"] == "WriteRefused"
        assert "Give the operator this right: the chart's rbac.yaml has what it needs." in ready["message"]
        await client.send("patch", role, role.path(namespace, "operator"), body={"rules": rules()})
        async with asyncio.timeout(60):
            while (ready := await town.settle())["reason"] != "Ready":
                assert ready["reason"] == "WriteRefused", ready["message"]
                await asyncio.sleep(0.1)  # rights count some time after they were written


async def test_a_storage_class_is_corrected_and_the_claim_made_anew(town: Town) -> None:
    """What status says where a claim's class does not exist; a claim can't be changed."""
    claim = {"size": "20Gi", "storageClassName": "missing"}
    await make(town.client, town.namespace, cache={**MADE, "persistentVolumeClaim": claim})
    await town.settle()
    await edit(town.client, town.key, cache={"persistentVolumeClaim": {"storageClassName": "fast"}})
    name = f"{town.key[1]}-models"
    old = await town.client.get(CLAIM, town.namespace, name)
    assert old is not None and old["spec"]["storageClassName"] == "missing"
    await town.client.delete(CLAIM, town.namespace, name, old["metadata"]["uid"])
    path = CLAIM.path(town.namespace, name)  # as the controller does that keeps claims which are in use
    await town.client.send("patch", CLAIM, path, body={"metadata": {"finalizers": None}})
    ready = await town.settle()
    assert (ready["status"], ready["reason"]) == ("True", "Ready"), ready["message"]
    new = await town.client.get(CLAIM, town.namespace, name)
    assert new is not None and new["spec"]["storageClassName"] == "fast"
