"""What an installation lets services use: accounts, Secrets and images of their namespace, containers, models' code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from llmservice_api.conditions import Reason
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.pod_fields import CONTAINER, mapping, named
from llmservice_operator.facts.problem import Problem

_SECRET_REFERENCES = ("secretRef", "secretKeyRef", "nodePublishSecretRef")


@dataclass(frozen=True, slots=True)
class Use:
    """`field` names `value`, a thing of kind `kind`."""

    field: str
    value: str
    kind: str


def not_allowed(spec: LLMServiceSpec, config: OperatorConfig) -> Problem | None:
    """The first of those that the installation keeps from services; None without one."""
    allow = config.allow
    known = tuple(image.image for image in config.images)
    lists = {
        "ServiceAccount": ("serviceAccounts", allow.service_accounts),
        "Secret": ("secrets", allow.secrets),
        "image": ("images", (*allow.images, *known)),
    }
    if not allow.sidecars:
        for field in _sidecars(spec):
            return Problem(
                Reason.INVALID,
                f"{field}: this installation lets services add no containers of their own. Leave it out, or have the "
                "chart's runtime.allow.sidecars set.",
            )
    if spec.model.trust_remote_code and not allow.remote_code:
        return Problem(
            Reason.INVALID,
            "spec.model.trustRemoteCode: this installation runs no code that models bring. Leave it out, or have the "
            "chart's runtime.allow.remoteCode set.",
        )
    for use in uses(spec):
        name, patterns = lists[use.kind]
        if not any(fnmatchcase(use.value, pattern) for pattern in patterns):
            return _refused(use, name, patterns)
    return None


def _refused(use: Use, name: str, patterns: tuple[str, ...]) -> Problem:
    said = f"It allows {', '.join(patterns)}." if patterns else "It allows none."
    return Problem(
        Reason.INVALID,
        f"{use.field}: {use.value} is no {use.kind} that this installation lets services use. {said} Leave it out, or "
        f"have it added to the chart's runtime.allow.{name}.",
    )


def uses(spec: LLMServiceSpec) -> Iterator[Use]:
    """Every account, Secret and image that the spec names. Pull secrets are seen by the kubelet alone."""
    if spec.service_account_name is not None:
        yield Use("spec.serviceAccountName", spec.service_account_name, "ServiceAccount")
    if spec.model.secret_ref is not None:
        yield Use("spec.model.secretRef.name", spec.model.secret_ref.name, "Secret")
    if spec.engine.image is not None:
        yield Use("spec.engine.image", spec.engine.image, "image")
    pod = spec.pod_template.spec if spec.pod_template else {}
    place = "spec.podTemplate.spec"
    for group in ("containers", "initContainers"):
        for container in named(pod.get(group)):
            if container.get("image"):
                yield Use(f"{place}.{group}[{container.get('name', '')}].image", str(container["image"]), "image")
    for volume in named(pod.get("volumes")):
        reference = mapping(volume.get("image")).get("reference")
        if reference:
            yield Use(f"{place}.volumes[{volume.get('name', '')}].image.reference", str(reference), "image")
    yield from _secrets({name: value for name, value in pod.items() if name != "imagePullSecrets"}, place)


def _sidecars(spec: LLMServiceSpec) -> Iterator[str]:
    pod = spec.pod_template.spec if spec.pod_template else {}
    for group in ("containers", "initContainers"):
        for container in named(pod.get(group)):
            if group == "initContainers" or container.get("name") != CONTAINER:
                yield f"spec.podTemplate.spec.{group}[{container.get('name', '')}]"


def _secrets(value: Any, place: str) -> Iterator[Use]:
    """Secrets that anything below names, in whichever field: volumes and environment."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, Mapping) else index
            yield from _secrets(item, f"{place}[{name}]")
    elif isinstance(value, Mapping):
        for name, below in value.items():
            here = f"{place}.{name}"
            if name == "secretName" and isinstance(below, str):
                yield Use(here, below, "Secret")
            elif name in _SECRET_REFERENCES or (name == "secret" and "name" in mapping(below)):
                yield Use(f"{here}.name", str(mapping(below).get("name", "")), "Secret")
            else:
                yield from _secrets(below, here)
