"""What podTemplate may ask of a node: nothing, unless the installation lends it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from core_world import CONFIG, World  # type: ignore[import-not-found]

LENDING = dataclasses.replace(CONFIG, node_access=True)
Json = dict[str, Any]


def runtime(**fields: Any) -> Json:
    return {"containers": [{"name": "runtime", **fields}]}


def sidecar(**context: Any) -> Json:
    return {"initContainers": [{"name": "s", "image": "s:1", "securityContext": context}]}


REACHING = [
    ({"hostNetwork": True}, "hostNetwork: it gives pods the network"),
    ({"hostPID": True}, "hostPID: it gives pods the processes"),
    ({"hostIPC": True}, "hostIPC: it gives pods the shared memory"),
    (runtime(securityContext={"privileged": True}), "containers[runtime].securityContext.privileged"),
    (sidecar(privileged=True), "initContainers[s].securityContext.privileged"),
    (sidecar(capabilities={"add": ["CHOWN", "SYS_ADMIN"]}), "the capability SYS_ADMIN"),
    (sidecar(capabilities={"add": ["cap_sys_ptrace"]}), "the capability cap_sys_ptrace"),
    (sidecar(procMount="Unmasked"), "initContainers[s].securityContext.procMount"),
    (sidecar(windowsOptions={"hostProcess": True}), "initContainers[s].securityContext.windowsOptions.hostProcess"),
    ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "spec.securityContext.windowsOptions.hostProcess"),
    (
        {"containers": [{"name": "s", "image": "s:1", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
        "containers[s].ports.hostPort",
    ),
]


@pytest.mark.parametrize(("spec", "said"), REACHING, ids=[said for _, said in REACHING])
def test_what_reaches_out_of_a_pod_is_refused_unless_it_is_lent(spec: Json, said: str) -> None:
    world = World().served()
    before = world.get("Deployment")["spec"]["template"]
    world.edit(podTemplate={"spec": spec}).pass_()
    found = world.condition("SpecValid")
    assert (found["status"], found["reason"]) == ("False", "Invalid")
    assert said in found["message"]
    assert "runtime.nodeAccess" in found["message"]
    assert world.get("Deployment")["spec"]["template"] == before
    world.config = LENDING
    world.pass_()
    assert world.condition("SpecValid")["status"] == "True"


@pytest.mark.parametrize(
    "spec",
    [
        {"hostNetwork": False, "hostPID": None},
        {"securityContext": {"runAsUser": 1000, "fsGroup": 1000}},
        sidecar(privileged=False, capabilities={"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}, procMount="Default"),
        {"containers": [{"name": "s", "image": "s:1", "ports": [{"containerPort": 1}]}]},
        {"securityContext": "no mapping", "initContainers": "no list"},
    ],
)
def test_what_stays_in_a_pod_is_not_held_against_it(spec: Json) -> None:
    world = World().edit(podTemplate={"spec": spec})
    world.pass_()
    found = world.condition("SpecValid")
    assert "runtime.nodeAccess" not in found["message"]
