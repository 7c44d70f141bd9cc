"""What a service may have beyond a pod of its namespace: nothing, unless the installation lends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_world import CONFIG, World  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.allowed import not_allowed
from llmservice_operator.facts.config import Allow
from llmservice_operator.facts.pod_leave import not_lent, reaches
from llmservice_operator.facts.pod_rules import POD

SAMPLES = sorted((Path(__file__).resolve().parents[3] / "config/samples").glob("*.yaml"))
LENDING = dataclasses.replace(CONFIG, node_access=True)
Json = dict[str, Any]


def runtime(**fields: Any) -> Json:
    return {"containers": [{"name": "runtime", **fields}]}


def sidecar(**context: Any) -> Json:
    return {"initContainers": [{"name": "s", "image": "s:1", "securityContext": context}]}


def volume(**source: Any) -> Json:
    return {"volumes": [{"name": "v", **source}]}


REACHING = [
    ({"hostNetwork": True}, "spec.hostNetwork: true gives pods the network of their node", "hostNetwork"),
    ({"hostPID": True}, "spec.hostPID: true gives pods the processes of their node", "hostPID"),
    ({"hostIPC": True}, "spec.hostIPC: true gives pods the shared memory of their node", "hostIPC"),
    (
        runtime(securityContext={"privileged": True}),
        "containers[runtime].securityContext.privileged: true gives pods all rights",
        "containers.securityContext.privileged",
    ),
    (
        sidecar(privileged=True),
        "initContainers[s].securityContext.privileged",
        "initContainers.securityContext.privileged",
    ),
    (sidecar(capabilities={"add": ["CHOWN", "SYS_ADMIN"]}), "the capability SYS_ADMIN", "initContainers"),
    (sidecar(capabilities={"add": ["cap_sys_ptrace"]}), "the capability cap_sys_ptrace", "initContainers"),
    (sidecar(procMount="Unmasked"), "initContainers[s].securityContext.procMount", "initContainers.securityContext"),
    (
        sidecar(windowsOptions={"hostProcess": True}),
        "initContainers[s].securityContext.windowsOptions.hostProcess",
        "initContainers.securityContext.windowsOptions",
    ),
    (
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        "spec.securityContext.windowsOptions.hostProcess",
        "securityContext.windowsOptions.hostProcess",
    ),
    (
        {"securityContext": {"windowsOptions": {"gmsaCredentialSpecName": "admin"}}},
        "an account of the domain",
        "securityContext.windowsOptions.gmsaCredentialSpecName",
    ),
    (
        {"containers": [{"name": "s", "image": "s:1", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
        "containers[s].ports[0].hostPort",
        "containers.ports.hostPort",
    ),
    (
        {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
        '"spc_t" gives pods an SELinux type',
        "securityContext",
    ),
    (sidecar(seLinuxOptions={"user": "system_u"}), "an SELinux user", "initContainers.securityContext.seLinuxOptions"),
    (sidecar(seLinuxOptions={"role": "system_r"}), "an SELinux role", "initContainers.securityContext.seLinuxOptions"),
    (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        "spec.securityContext.seccompProfile.type",
        "securityContext.seccompProfile",
    ),
    (
        sidecar(appArmorProfile={"type": "Unconfined"}),
        "appArmorProfile.type",
        "initContainers.securityContext.appArmorProfile.type",
    ),
    (
        {"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced"}, {"name": "net/core/somaxconn"}]}},
        "the kernel setting net/core/somaxconn",
        "securityContext.sysctls",
    ),
    (
        {"containers": [{"name": "s", "image": "s:1", "livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 1}}}]},
        'containers[s].livenessProbe.httpGet.host: "10.0.0.1" gives pods a request of the kubelet',
        "containers.livenessProbe.httpGet.host",
    ),
    (
        {"initContainers": [{"name": "s", "startupProbe": {"tcpSocket": {"host": "127.0.0.1", "port": 1}}}]},
        "initContainers[s].startupProbe.tcpSocket.host",
        "initContainers.startupProbe",
    ),
    (
        {"containers": [{"name": "s", "lifecycle": {"postStart": {"httpGet": {"host": "169.254.169.254"}}}}]},
        "containers[s].lifecycle.postStart.httpGet.host",
        "containers.lifecycle",
    ),
    (
        {"containers": [{"name": "s", "volumeMounts": [{"mountPath": "/x", "mountPropagation": "Bidirectional"}]}]},
        "mounts on their node",
        "containers.volumeMounts.mountPropagation",
    ),
    ({"nodeName": "n1"}, '"n1" gives pods a node without asking the scheduler', "nodeName"),
    ({"priorityClassName": "system-node-critical"}, "a priority of the cluster's own parts", "priorityClassName"),
    ({"tolerations": [{"key": "a"}, {"operator": "Exists"}]}, "all nodes, whatever these are kept for", "tolerations"),
    ({"tolerations": [{"key": "node-role.kubernetes.io/etcd", "operator": "Exists"}]}, "control plane", "tolerations"),
    ({"tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}]}, "control plane", "tolerations"),
    ({"tolerations": [{"key": "", "operator": "Exists", "effect": "NoSchedule"}]}, "all nodes", "tolerations"),
    (
        {"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]},
        "the nodes of the control plane",
        "tolerations",
    ),
    (volume(nfs={"server": "10.0.0.1", "path": "/"}), "volumes[v].nfs: ", "volumes.nfs"),
    (volume(iscsi={"targetPortal": "10.0.0.1"}), "storage that no PersistentVolume stands for", "volumes.iscsi"),
    (volume(flexVolume={"driver": "x/y"}), "volumes[v].flexVolume", "volumes.flexVolume"),
    (volume(gitRepo={"repository": "x"}), "volumes[v].gitRepo", "volumes.gitRepo"),
    (volume(csi={"driver": "x.y"}), "what a storage driver makes", "volumes.csi"),
    (
        volume(projected={"sources": [{"podCertificate": {"signerName": "a/b"}}]}),
        "volumes[v].projected.sources[0].podCertificate",
        "volumes.projected.sources.podCertificate",
    ),
    (volume(holographic={"server": "x"}), "volumes[v].holographic: it is no field that this operator", "volumes"),
    ({"hostEverything": True}, "spec.hostEverything: it is no field that this operator knows", "hostEverything"),
    ({"nodeSelctor": {"a": "b"}}, "spec.nodeSelctor: it is no field that this operator knows", "nodeSelctor"),
]


@pytest.mark.parametrize(("spec", "said", "lent"), REACHING, ids=[said for _, said, _ in REACHING])
def test_what_reaches_out_of_a_pod_is_refused_unless_it_is_lent(spec: Json, said: str, lent: str) -> None:
    world = World().served()
    before = world.get("Deployment")["spec"]["template"]
    world.edit(podTemplate={"spec": spec}).pass_()
    found = world.condition("SpecValid")
    assert (found["status"], found["reason"]) == ("False", "Invalid")
    assert said in found["message"]
    assert "the chart's runtime.podFields" in found["message"]
    assert world.get("Deployment")["spec"]["template"] == before
    for config in (LENDING, dataclasses.replace(CONFIG, pod_fields=(lent,))):
        world.config = config
        world.pass_()
        assert world.condition("SpecValid")["status"] == "True"
    world.config = dataclasses.replace(CONFIG, pod_fields=(f"{lent[:-1]}", "securityContext.runAsUser"))
    world.pass_()
    assert world.condition("SpecValid")["status"] == "False", "another field was lent"


@pytest.mark.parametrize(
    "spec",
    [
        {"hostNetwork": False, "hostPID": None, "nodeName": ""},
        {"securityContext": {"runAsUser": 0, "runAsNonRoot": False, "fsGroup": 1000, "seccompProfile": None}},
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}},
        {"securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}},
        {"securityContext": {"seLinuxOptions": {"type": "container_t", "level": "s0:c1,c2"}}},
        {"hostUsers": False, "shareProcessNamespace": True, "runtimeClassName": "nvidia", "schedulerName": "volcano"},
        {"priorityClassName": "high", "tolerations": [{"key": "spot", "operator": "Exists"}]},
        {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub"]}], "dnsPolicy": "None", "dnsConfig": {"x": 1}},
        sidecar(privileged=False, capabilities={"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}, procMount="Default"),
        {"containers": [{"name": "s", "image": "s:1", "ports": [{"containerPort": 1}]}]},
        {"containers": [{"name": "s", "livenessProbe": {"httpGet": {"path": "/", "port": 1, "host": ""}}}]},
        volume(projected={"sources": [{"serviceAccountToken": {"audience": "bank", "path": "token"}}]}),
        volume(image={"reference": "models:1"}),
        volume(ephemeral={"volumeClaimTemplate": {"spec": {}}}),
    ],
)
def test_what_stays_in_a_pod_is_not_held_against_it(spec: Json) -> None:
    world = World().edit(podTemplate={"spec": spec})
    world.pass_()
    assert world.condition("SpecValid")["status"] == "True"


@pytest.mark.parametrize(
    ("name", "value", "lent"),
    [
        ("container.apparmor.security.beta.kubernetes.io/runtime", "unconfined", False),
        ("container.apparmor.security.beta.kubernetes.io/runtime", "runtime/default", True),
        ("io.kubernetes.cri-o.Devices", "/dev/kvm", False),
        ("io.kubernetes.cri.untrusted-workload", "x", False),
        ("seccomp-profile.kubernetes.cri-o.io/runtime", "unconfined", False),
        ("cpu-quota.crio.io", "disable", False),
        ("cpu-load-balancing.crio.io/runtime", "disable", False),
        ("io.katacontainers.config.hypervisor.path", "/bin/sh", False),
        ("dev.gvisor.spec.mount.cache.source", "/", False),
        ("cdi.k8s.io/gpu", "nvidia.com/gpu=all", False),
        ("org.systemd.property.CPUQuotaPerSecUSec", "1", False),
        ("acme.example/crio.io", "x", True),
        ("sidecar.istio.io/inject", "false", True),
    ],
)
def test_annotations_that_the_kubelet_reads_are_no_way_around(name: str, value: str, lent: bool) -> None:
    world = World().edit(podTemplate={"metadata": {"annotations": {name: value}}})
    world.pass_()
    found = world.condition("SpecValid")
    assert (found["status"] == "True") == lent
    assert lent or f"spec.podTemplate.metadata.annotations.{name}" in found["message"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_no_sample_needs_leave_but_for_a_directory(sample: Path) -> None:
    config = dataclasses.replace(CONFIG, host_paths=("/var/lib/llmservice/models",))
    for document in yaml.safe_load_all(sample.read_text()):
        if document["kind"] == "LLMService":
            spec = LLMServiceSpec.model_validate(document["spec"])
            assert not_lent(spec, config) is not_allowed(spec, config) is None


NAMES = st.sampled_from([*POD, "name", "nfs", "host", "unheard"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
)


@given(st.dictionaries(NAMES, ANYTHING, max_size=4))
def test_any_template_is_judged(pod: Json) -> None:
    spec = LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}, "podTemplate": {"spec": pod}})
    assert all(str(found).startswith("spec.podTemplate.spec.") for found in reaches(spec))


TWICE = [{"name": "runtime"}, {"name": "runtime", "image": "evil:1", "command": ["sh"]}]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"containers": TWICE}, "spec.podTemplate.spec.containers[runtime] stands twice. Keep one."),
        ({"ephemeralContainers": [{"name": "x", "image": "x:1"}]}, "kubectl debug"),
        ({"serviceAccountName": None}, "Use spec.serviceAccountName"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, "Use spec.resources"),
    ],
)
def test_what_goes_around_the_plan_is_refused(spec: Json, said: str) -> None:
    world = World(dataclasses.replace(CONFIG, node_access=True)).edit(podTemplate={"spec": spec})
    world.pass_()
    assert said in world.condition("SpecValid")["message"]


RESTRICTED = dataclasses.replace(
    CONFIG, allow=Allow(service_accounts=("llm-*",), secrets=("hub-*",), images=("good.example/*",), sidecars=True)
)


def secret_in_env(name: str) -> Json:
    return runtime(env=[{"name": "T", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"serviceAccountName": "admin"}, "spec.serviceAccountName: admin is no ServiceAccount that this installation"),
        ({"serviceAccountName": "llm-a"}, ""),
        ({"model": {"uri": "hf://a/b", "secretRef": {"name": "db"}}}, "spec.model.secretRef.name: db is no Secret"),
        ({"model": {"uri": "hf://a/b", "secretRef": {"name": "hub-token"}}}, ""),
        ({"engine": {"type": "LlamaCpp", "image": "bad.example/x"}}, "spec.engine.image: bad.example/x is no image"),
        ({"engine": {"type": "LlamaCpp", "image": "good.example/x"}}, ""),
        ({"engine": {"type": "LlamaCpp", "image": "runtime:cpu"}}, ""),
        ({"podTemplate": {"spec": sidecar()}}, "initContainers[s].image: s:1 is no image"),
        ({"podTemplate": {"spec": volume(image={"reference": "x:1"})}}, "volumes[v].image.reference: x:1"),
        ({"podTemplate": {"spec": volume(secret={"secretName": "db"})}}, "volumes[v].secret.secretName: db"),
        ({"podTemplate": {"spec": volume(secret={"secretName": "hub-a"})}}, ""),
        (
            {"podTemplate": {"spec": volume(projected={"sources": [{"secret": {"name": "db"}}]})}},
            "volumes[v].projected.sources[0].secret.name: db",
        ),
        ({"podTemplate": {"spec": secret_in_env("db")}}, "containers[runtime].env[T].valueFrom.secretKeyRef.name: db"),
        ({"podTemplate": {"spec": secret_in_env("hub-a")}}, ""),
        (
            {"podTemplate": {"spec": runtime(envFrom=[{"secretRef": {"name": "db"}}])}},
            "containers[runtime].envFrom[0].secretRef.name: db",
        ),
        ({"podTemplate": {"spec": {"imagePullSecrets": [{"name": "registry"}]}}}, ""),
    ],
)
def test_an_installation_restricts_accounts_secrets_and_images(fields: Json, said: str) -> None:
    world = World(RESTRICTED).edit(**fields)
    world.pass_()
    found = world.condition("SpecValid")
    assert (found["status"] == "True") == (said == "")
    assert said in found["message"]
    assert not said or "the chart's runtime.allow." in found["message"]


def test_code_of_models_runs_only_where_the_installation_lends_it() -> None:
    model = {"uri": "hf://a/b", "trustRemoteCode": True}
    world = World(CONFIG).edit(model=model)
    world.pass_()
    assert "the chart's runtime.allow.remoteCode" in world.condition("SpecValid")["message"]
    lent = World(dataclasses.replace(CONFIG, allow=Allow(remote_code=True))).edit(model=model)
    lent.pass_()
    assert lent.condition("SpecValid")["status"] == "True"
    (job,) = lent.of("Job")
    said = job["spec"]["template"]["spec"]["containers"]
    assert said and "code" not in str(said).lower()  # what reads headers is told of no code


def test_an_installation_can_do_without_sidecars() -> None:
    alone = dataclasses.replace(CONFIG, allow=Allow(sidecars=False))
    for pod in (sidecar(), {"containers": [{"name": "runtime"}, {"name": "s", "image": "s:1"}]}):
        world = World(alone).edit(podTemplate={"spec": pod})
        world.pass_()
        assert "runtime.allow.sidecars" in world.condition("SpecValid")["message"]
    world = World(alone).edit(podTemplate={"spec": runtime(env=[{"name": "A", "value": "b"}])})
    world.pass_()
    assert world.condition("SpecValid")["status"] == "True"
