"""Which labels and annotations of an LLMService its children get: a team's own, none that tools or Kubernetes read.

What a tool marks as its own on the children it would prune: they are in no repository and no release.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from llmservice_api.labels import QUEUE
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.pod_rules import annotation

MOST = 64
"""Labels, and annotations, that are passed on at most: the first by name."""
ROOM = 32_768
"""Bytes that they take at most together, names and values: pods and revisions carry them too."""
FAMILIAR = "app.kubernetes.io"
"""The one domain of Kubernetes whose labels are for everybody."""
_BY_TOOLS = frozenset((f"{FAMILIAR}/instance", f"{FAMILIAR}/managed-by", QUEUE))
"""Argo CD tells its objects by the first, Helm by the second; the third goes to what needs room alone."""
_OF_CONTROLLERS = frozenset(("pod-template-hash", "controller-revision-hash", "controller-uid", "job-name"))
_DOMAINS = (
    "kubernetes.io", "k8s.io", "llmservice.dev", "helm.sh", "argoproj.io", "fluxcd.io", "cattle.io", "k14s.io",
    "configsync.gke.io", "configmanagement.gke.io", "crossplane.io", "pulumi.com", "skaffold.dev", "tilt.dev",
    "kluctl.io", "okteto.com", "kpt.dev", "operators.coreos.com",
    "eks.amazonaws.com", "iam.gke.io", "azure.workload.identity",
)  # fmt: skip
"""Kubernetes' own, ours, those of tools that deploy (Helm, Argo CD, Flux, Fleet, kapp, Config Sync, ...), and those by
which clouds give rights to accounts."""
_STARTS = ("olm.", "io.cattle.")
"""Names of tools that are no domains read from the right."""


def owner_of(service: Mapping[str, Any], config: OperatorConfig) -> Owner:
    """The owner of a service's children, with what it passes on to them."""
    metadata = service["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return Owner(
        metadata["name"],
        metadata["namespace"],
        metadata["uid"],
        labels.get(QUEUE, ""),
        tuple(_passed(labels, config.not_passed_on)),
        tuple(_passed(annotations, config.not_passed_on)),
        tuple(_left_out(labels, config.not_passed_on)) + tuple(_left_out(annotations, config.not_passed_on)),
    )


def _passed(entries: Mapping[str, str], kept: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """In the order of names; `kept` are patterns of names that the installation does not pass on."""
    return ((name, entries[name]) for name in _fitting(entries, _meant(entries, kept)))


def _left_out(entries: Mapping[str, str], kept: tuple[str, ...]) -> list[str]:
    meant = _meant(entries, kept)
    fitting = frozenset(_fitting(entries, meant))
    return [name for name in meant if name not in fitting]


def _meant(entries: Mapping[str, str], kept: tuple[str, ...]) -> list[str]:
    return sorted(name for name in entries if not (_kept(name) or any(fnmatchcase(name, found) for found in kept)))


def _fitting(entries: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """What is too large for the room that is left is left out, and stops nothing that comes after it."""
    fitting: list[str] = []
    room = ROOM
    for name in names:
        size = len(f"{name}{entries[name]}".encode())
        if size <= room and len(fitting) < MOST:
            fitting.append(name)
            room -= size
    return fitting


def _kept(name: str) -> bool:
    """Whether somebody else reads it: a controller, a tool that deploys, a container runtime."""
    domain = name.partition("/")[0] if "/" in name else ""
    if name in _BY_TOOLS or name in _OF_CONTROLLERS or name.startswith(_STARTS) or annotation(name):
        return True
    return domain != FAMILIAR and any(domain == known or domain.endswith(f".{known}") for known in _DOMAINS)
