"""Names of revisions: another spec is another one. Those that an earlier release gave are known as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmservice_api.live import in_pods
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.model_access import model_access
from llmservice_operator.facts.owner import Owner, digest


def revision_name(owner: Owner, spec: LLMServiceSpec) -> str:
    """Another spec is another revision, apart from fields that are live (`llmservice_api.live`).

    Defaults are left out, so that a field which a later release adds changes no name.
    """
    return _name(owner, spec, in_pods(spec))


def former_name(owner: Owner, spec: LLMServiceSpec) -> str:
    """What the spec's revision was called when fields of the claim that is made for the cache were not yet live.

    A field that becomes live changes names, and an upgrade of the operator rolls nothing.
    """
    return _name(owner, spec, spec.model_dump(mode="json", exclude_defaults=True, exclude={"replicas", "rollout"}))


def is_of(name: str, known: str) -> bool:
    """Whether a revision is the named one, or one of the same spec with other content."""
    return known == name or known.startswith(f"{name}-")


def _name(owner: Owner, spec: LLMServiceSpec, parts: Mapping[str, Any]) -> str:
    found = dict(parts)
    if not model_access(owner, spec).own_download:  # only Jobs prepare: they are not of the revision
        found.pop("prepare", None)
    return f"{owner.name}-{digest(found | ({'queue': owner.queue} if owner.queue else {}), 10)}"
