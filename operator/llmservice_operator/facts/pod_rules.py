"""Every field of a pod (Kubernetes 1.34), and what it reaches beyond the pod. What is not here needs leave.

What the Pod Security Standards let every pod have at level `baseline` is the pod's own; what they don't, and what goes
around scheduler, storage classes and other accounts, is an installation's to lend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

Rule: TypeAlias = Callable[[Any], str]
"""A field's value -> what it gives pods beyond themselves; empty = nothing."""
Fields: TypeAlias = "Mapping[str, Fields | Rule | None]"
"""Known fields: a rule, the fields of a mapping (or of a list's mappings), or None = the pod's own."""

CAPABILITIES = frozenset((
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
))  # fmt: skip
"""What containers have by default, and may therefore ask for."""
SYSCTLS = frozenset((
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
))  # fmt: skip
"""Those that a pod has for itself."""
SELINUX_TYPES = frozenset(("container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
CONTROL_PLANE = frozenset((
    "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/controlplane", "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/etcd", "CriticalAddonsOnly",
))  # fmt: skip
"""Taints of nodes that run the cluster itself."""


def gives(what: str) -> Rule:
    """Whatever is not empty or false gives it."""
    return lambda value: what if value else ""


def other_than(known: Iterable[str], what: str) -> Rule:
    """Whatever is not one of these gives it."""
    allowed = frozenset(known)
    return lambda value: what if value and not (isinstance(value, str) and value in allowed) else ""


def _capabilities(value: Any) -> str:
    beyond = [str(n) for n in _list(value) if str(n).upper().removeprefix("CAP_") not in CAPABILITIES]
    return f"the capability {beyond[0]}" if beyond else ""


def _sysctls(value: Any) -> str:
    names = [str(item.get("name")) for item in _list(value) if isinstance(item, Mapping)]
    beyond = [name for name in names if name.replace("/", ".") not in SYSCTLS]
    return f"the kernel setting {beyond[0]}" if beyond else ""


def _tolerations(value: Any) -> str:
    for item in _list(value):
        if isinstance(item, Mapping):
            if not item.get("key"):
                return "all nodes, whatever these are kept for"
            if item["key"] in CONTROL_PLANE:
                return "the nodes of the control plane"
    return ""


def _priority(value: Any) -> str:
    return "a priority of the cluster's own parts" if isinstance(value, str) and value.startswith("system-") else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_PROFILES = "system calls and files without the bounds of a security profile"
_PROFILE: Fields = {"type": other_than(("RuntimeDefault", "Localhost"), _PROFILES), "localhostProfile": None}
_CONTEXT: Fields = {
    "runAsUser": None,
    "runAsGroup": None,
    "runAsNonRoot": None,
    "seccompProfile": _PROFILE,
    "appArmorProfile": _PROFILE,
    "seLinuxOptions": {
        "level": None,
        "type": other_than(SELINUX_TYPES, "an SELinux type beyond those of containers"),
        "user": gives("an SELinux user of its own"),
        "role": gives("an SELinux role of its own"),
    },
    "windowsOptions": {
        "hostProcess": gives("all rights of their node"),
        "gmsaCredentialSpec": gives("an account of the domain"),
        "gmsaCredentialSpecName": gives("an account of the domain"),
        "runAsUserName": None,
    },
}
_FROM_THE_NODE = "a request of the kubelet, from its node's network, to another host"
_HANDLER: Fields = {
    "exec": None,
    "httpGet": {"host": gives(_FROM_THE_NODE), "path": None, "port": None, "scheme": None, "httpHeaders": None},
    "tcpSocket": {"host": gives(_FROM_THE_NODE), "port": None},
}
_HOOK: Fields = {**_HANDLER, "sleep": None}
_PROBE: Fields = {
    **_HANDLER,
    **dict.fromkeys((
        "grpc", "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold",
        "terminationGracePeriodSeconds",
    )),
}  # fmt: skip
_CONTAINER: Fields = {
    **dict.fromkeys((
        "name", "image", "imagePullPolicy", "command", "args", "workingDir", "resources", "resizePolicy",
        "restartPolicy", "restartPolicyRules", "volumeDevices", "terminationMessagePath", "terminationMessagePolicy",
        "stdin", "stdinOnce", "tty",
    )),
    "env": {"name": None, "value": None, "valueFrom": dict.fromkeys((
        "fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef",
    ))},
    "envFrom": {"prefix": None, "configMapRef": None, "secretRef": None},
    "ports": {
        **dict.fromkeys(("name", "containerPort", "protocol", "hostIP")),
        "hostPort": gives("a port of their node"),
    },
    "volumeMounts": {
        **dict.fromkeys(("name", "mountPath", "subPath", "subPathExpr", "readOnly", "recursiveReadOnly")),
        "mountPropagation": other_than(("None", "HostToContainer"), "mounts on their node"),
    },
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
    "startupProbe": _PROBE,
    "lifecycle": {"postStart": _HOOK, "preStop": _HOOK, "stopSignal": None},
    "securityContext": {
        **_CONTEXT,
        "allowPrivilegeEscalation": None,
        "readOnlyRootFilesystem": None,
        "privileged": gives("all rights of their node"),
        "procMount": other_than(("Default",), "the unmasked /proc"),
        "capabilities": {"add": _capabilities, "drop": None},
    },
}  # fmt: skip
_VOLUME: Fields = {
    "name": None,
    "hostPath": None,  # directory by directory: runtime.hostPaths
    **dict.fromkeys((
        "configMap", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "secret",
    )),
    "projected": {"defaultMode": None, "sources": {
        **dict.fromkeys(("configMap", "downwardAPI", "secret", "serviceAccountToken", "clusterTrustBundle")),
        "podCertificate": gives("a certificate of a signer of their choice"),
    }},
    "csi": gives("what a storage driver makes for a pod that asks it directly"),
    **dict.fromkeys((
        "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker",
        "gcePersistentDisk", "gitRepo", "glusterfs", "iscsi", "nfs", "photonPersistentDisk", "portworxVolume",
        "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume",
    ), gives("storage that no PersistentVolume stands for")),
}  # fmt: skip
POD: Fields = {
    **dict.fromkeys((
        "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy",
        "enableServiceLinks", "hostAliases", "hostUsers", "hostname", "hostnameOverride", "imagePullSecrets",
        "nodeSelector", "os", "overhead", "preemptionPolicy", "priority", "readinessGates", "resourceClaims",
        "runtimeClassName", "schedulerName", "schedulingGates", "setHostnameAsFQDN", "shareProcessNamespace",
        "subdomain", "topologySpreadConstraints",
    )),
    "containers": _CONTAINER,
    "initContainers": _CONTAINER,
    "volumes": _VOLUME,
    "hostNetwork": gives("the network of their node"),
    "hostPID": gives("the processes of their node"),
    "hostIPC": gives("the shared memory of their node"),
    "nodeName": gives("a node without asking the scheduler"),
    "priorityClassName": _priority,
    "tolerations": _tolerations,
    "securityContext": {
        **_CONTEXT,
        **dict.fromkeys((
            "fsGroup", "fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy",
        )),
        "sysctls": _sysctls,
    },
}  # fmt: skip
"""Fields of a PodSpec, without those that the plan owns (`pod_fields`): these are refused before."""
_RUNTIME = "a setting of the container runtime"
ANNOTATIONS: Mapping[str, Rule] = {
    "container.apparmor.security.beta.kubernetes.io/": lambda value: _PROFILES if value == "unconfined" else "",
    "container.seccomp.security.alpha.kubernetes.io/": gives(_PROFILES),
    "seccomp.security.alpha.kubernetes.io/": gives(_PROFILES),
    **dict.fromkeys((
        "io.kubernetes.cri-o.", "io.kubernetes.cri.", "io.containerd.", "io.katacontainers.", "dev.gvisor.",
        "run.oci.", "org.systemd.property.", "org.opencontainers.", "cdi.k8s.io/",
    ), gives(_RUNTIME)),
}  # fmt: skip
"""Annotations of pods that the kubelet or the container runtime reads, by what they begin with."""
RUNTIME_DOMAINS = ("crio.io", "cri-o.io", "katacontainers.io", "containerd.io", "gvisor.dev", "cdi.k8s.io")
"""Domains whose annotations a container runtime reads, and those of domains below."""


def annotation(name: str) -> tuple[str, Rule] | None:
    """(what an installation writes to lend it, what it gives) of an annotation that reaches beyond the pod."""
    for start, rule in ANNOTATIONS.items():
        if name.startswith(start):
            return start, rule
    domain = name.partition("/")[0]
    for known in RUNTIME_DOMAINS:
        if domain == known or domain.endswith(f".{known}"):
            return known, gives(_RUNTIME)
    return None
