"""The shapes of `spec.podTemplate` as far as they are read: what merges with the plan's own is what it looks like.

Everything else of the template is the API server's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Required

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from llmservice_api.sentences import field_path
from llmservice_runtime.contract.validation import said

Json = dict[str, Any]


class _Shape(TypedDict):
    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]


class _Named(_Shape):
    name: str


class _Mount(_Shape):
    mountPath: str


class _Resources(_Shape, total=False):
    requests: Json | None
    limits: Json | None
    claims: list[_Named] | None


class _Container(_Shape, total=False):
    name: Required[str]
    resources: _Resources | None
    env: list[_Named] | None
    envFrom: list[Json] | None
    volumeMounts: list[_Mount] | None
    startupProbe: Json | None
    livenessProbe: Json | None
    readinessProbe: Json | None
    securityContext: Json | None


class _Term(_Shape, total=False):
    matchExpressions: list[Json] | None
    matchFields: list[Json] | None


class _Terms(_Shape, total=False):
    nodeSelectorTerms: list[_Term] | None


class _NodeAffinity(_Shape, total=False):
    requiredDuringSchedulingIgnoredDuringExecution: _Terms | None
    preferredDuringSchedulingIgnoredDuringExecution: list[Json] | None


class _Affinity(_Shape, total=False):
    nodeAffinity: _NodeAffinity | None


class _Pod(_Shape, total=False):
    containers: list[_Container] | None
    initContainers: list[_Container] | None
    volumes: list[_Named] | None
    imagePullSecrets: list[_Named] | None
    hostAliases: list[Json] | None
    tolerations: list[Json] | None
    topologySpreadConstraints: list[Json] | None
    nodeSelector: Json | None
    affinity: _Affinity | None
    securityContext: Json | None
    dnsConfig: Json | None


_POD: TypeAdapter[Any] = TypeAdapter(_Pod)


def misshapen(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) for everything of the template's `spec` that has another shape than pods have."""
    try:
        _POD.validate_python(pod)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            yield field_path(("spec", *found["loc"])), said(found)
