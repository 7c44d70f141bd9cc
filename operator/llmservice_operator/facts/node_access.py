"""What of its nodes an installation lends to services: who may write an LLMService may not make pods.

Pod Security does the same for a whole namespace, where its owner has switched it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_api.conditions import Reason
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.problem import Problem

_NODES_OWN = {"hostNetwork": "network", "hostPID": "processes", "hostIPC": "shared memory"}
_HARMLESS = frozenset((
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
))  # fmt: skip
"""Capabilities that containers have by default, and level `baseline` of the Pod Security Standards lets them add."""
Json = Mapping[str, Any]


def not_lent(spec: LLMServiceSpec, config: OperatorConfig) -> Problem | None:
    """The first thing of a node that the spec names and the installation does not lend; None when there is none."""
    pod = spec.pod_template.spec if spec.pod_template else {}
    for field, path in _directories(spec, pod):
        if path not in config.host_paths:
            return _directory(field, path, config.host_paths)
    if config.node_access:
        return None
    return next((_access(field, what) for field, what in _accesses(pod)), None)


def _directory(field: str, path: str, lent: tuple[str, ...]) -> Problem:
    said = f"It lends {', '.join(lent)}." if lent else "It lends none."
    return Problem(
        Reason.INVALID,
        f"{field}: {path} is no directory of the nodes that this installation lends to services. {said} Have it added "
        "to the chart's runtime.hostPaths, or keep the model on a PersistentVolumeClaim.",
    )


def _access(field: str, what: str) -> Problem:
    return Problem(
        Reason.INVALID,
        f"spec.podTemplate.spec.{field}: it gives pods {what} of their node, which this installation does not lend to "
        "services. Leave it out, or have the chart's runtime.nodeAccess set.",
    )


def _directories(spec: LLMServiceSpec, pod: Json) -> Iterator[tuple[str, str]]:
    """(field, path) of every directory of the node that the spec names, the cache first."""
    if spec.cache.host_path is not None:
        yield "spec.cache.hostPath.path", spec.cache.host_path.path
    for volume in _items(pod, "volumes"):
        if isinstance(volume.get("hostPath"), Mapping):
            name, path = volume.get("name", ""), volume["hostPath"].get("path", "")
            yield f"spec.podTemplate.spec.volumes[{name}].hostPath.path", str(path)


def _accesses(pod: Json) -> Iterator[tuple[str, str]]:
    """(field, what it gives) of everything that reaches out of a pod, apart from directories."""
    for field, what in _NODES_OWN.items():
        if pod.get(field):
            yield field, f"the {what}"
    if _of(_of(pod, "securityContext"), "windowsOptions").get("hostProcess"):
        yield "securityContext.windowsOptions.hostProcess", "all rights"
    for group in ("initContainers", "containers"):
        for container in _items(pod, group):
            for field, what in _of_container(container):
                yield f"{group}[{container.get('name', '')}].{field}", what


def _of_container(container: Json) -> Iterator[tuple[str, str]]:
    context = _of(container, "securityContext")
    if context.get("privileged"):
        yield "securityContext.privileged", "all rights"
    if _of(context, "windowsOptions").get("hostProcess"):
        yield "securityContext.windowsOptions.hostProcess", "all rights"
    if context.get("procMount", "Default") not in ("Default", None):
        yield "securityContext.procMount", "the unmasked /proc"
    added = _of(context, "capabilities").get("add")
    for name in added if isinstance(added, list) else ():
        if str(name).upper().removeprefix("CAP_") not in _HARMLESS:
            yield "securityContext.capabilities.add", f"the capability {name}"
    if any(port.get("hostPort") for port in _items(container, "ports")):
        yield "ports.hostPort", "a port"


def _of(value: Json, name: str) -> Json:
    """A field that is a mapping; empty when it is none: the API server says so."""
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _items(value: Json, name: str) -> Iterator[Json]:
    """Those items of a list that are mappings."""
    found = value.get(name)
    yield from (item for item in (found if isinstance(found, list) else ()) if isinstance(item, Mapping))
