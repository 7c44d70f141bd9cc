"""What needs no leave is what Pod Security's level `baseline` lets every pod have, on the real API server."""

from __future__ import annotations

from typing import Any

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import POD, SERVICE_ACCOUNT, Json, Kind
from llmservice_operator.facts.pod_leave import reaches
from llmservice_operator.facts.pod_rules import CAPABILITIES, SELINUX_TYPES, SYSCTLS

NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)


def container(**fields: Any) -> Json:
    return {"containers": [{"name": "s", "image": "s:1", **fields}]}


def security(**context: Any) -> Json:
    return container(securityContext=context)


OWN: list[Json] = [
    {"securityContext": {"sysctls": [{"name": name, "value": "1"} for name in sorted(SYSCTLS)]}},
    security(capabilities={"add": sorted(CAPABILITIES)}, runAsUser=0, allowPrivilegeEscalation=True),
    *(security(seLinuxOptions={"type": name, "level": "s0:c1"}) for name in sorted(SELINUX_TYPES)),
    *(security(seccompProfile=profile) for profile in ({"type": "RuntimeDefault"},)),
    security(seccompProfile={"type": "Localhost", "localhostProfile": "a.json"}),
    security(appArmorProfile={"type": "Localhost", "localhostProfile": "a"}),
    {"hostUsers": False, "shareProcessNamespace": True},
    {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "b"}}]}}]},
    container(livenessProbe={"httpGet": {"path": "/", "port": 1}}),
]
BEYOND: list[Json] = [
    {"hostNetwork": True},
    {"hostPID": True},
    {"hostIPC": True},
    {"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}},
    security(privileged=True),
    security(capabilities={"add": ["NET_RAW"]}),
    security(seLinuxOptions={"type": "spc_t"}),
    security(seLinuxOptions={"user": "u"}),
    security(seLinuxOptions={"role": "r"}),
    security(seccompProfile={"type": "Unconfined"}),
    security(appArmorProfile={"type": "Unconfined"}),
    {"hostUsers": False, **security(procMount="Unmasked")},
    container(ports=[{"containerPort": 1, "hostPort": 1}]),
    container(livenessProbe={"httpGet": {"path": "/", "port": 1, "host": "10.0.0.1"}}),
    container(readinessProbe={"tcpSocket": {"port": 1, "host": "10.0.0.1"}}),
    container(lifecycle={"postStart": {"httpGet": {"path": "/", "port": 1, "host": "10.0.0.1"}}}),
]


async def test_the_line_is_drawn_where_baseline_draws_it(client: Client, namespace: str) -> None:
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    await client.send("patch", NAMESPACE, NAMESPACE.path(None, namespace), body=enforce)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    await client.send("create", SERVICE_ACCOUNT, SERVICE_ACCOUNT.path(namespace), body=account)
    for number, spec in enumerate([*OWN, *BEYOND]):
        template = {"model": {"uri": "hf://a/b"}, "podTemplate": {"spec": spec}}
        needs_leave = bool(list(reaches(LLMServiceSpec.model_validate(template))))
        refused = await _refused(client, namespace, f"p{number}", {**container(), **spec})
        assert (needs_leave, "violates PodSecurity" in refused) == (spec in BEYOND,) * 2, (spec, refused)
        assert needs_leave or not refused, (spec, refused)


async def _refused(client: Client, namespace: str, name: str, spec: Json) -> str:
    """Why the API server takes no such pod; empty when it does."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    try:
        await client.send("create", POD, POD.path(namespace), body=pod)
    except ApiError as error:
        return str(error)
    return ""
