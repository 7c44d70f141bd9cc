"""The plan in force, frozen in a ControllerRevision: what runs changes when the spec does, never with the operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_api.v1alpha1 import LLMService, LLMServiceSpec
from llmservice_operator.children.owner import Json, Owner, digest
from llmservice_operator.children.replica_pod import progress_seconds, replica_settings, replica_template
from llmservice_operator.core.config import OperatorConfig
from llmservice_operator.core.placing import Placed
from llmservice_operator.planning.explain import summary
from llmservice_runtime.prepare.report import Prepared


@dataclass(frozen=True, slots=True)
class Frozen:
    """A plan with the pod template it became; `number` orders revisions by when they were made."""

    name: str
    number: int
    engine: str
    reason: str
    summary: str
    fit: str
    resolved_revision: str
    resource: str
    progress_seconds: int
    template: Json
    plan: Json
    """The whole plan, for people."""


def revision_name(owner: Owner, spec: LLMServiceSpec) -> str:
    """Another spec is another revision; the number of replicas is not part of it.

    Defaults are left out, so that a field which a later release adds changes no name.
    """
    parts = spec.model_dump(mode="json", exclude_defaults=True, exclude={"replicas"})
    return f"{owner.name}-{digest(parts, 10)}"


def freeze(
    owner: Owner, service: LLMService, placed: Placed, prepared: Prepared, config: OperatorConfig, number: int
) -> Frozen:
    """The plan and everything that follows from it, as of now."""
    name = revision_name(owner, service.spec)
    settings = replica_settings(service, placed, prepared)
    return Frozen(
        name=name,
        number=number,
        engine=placed.plan.engine.value,
        reason=placed.plan.reason,
        summary=summary(placed.plan),
        fit=placed.plan.fit.value,
        resolved_revision=prepared.revision,
        resource=placed.resource,
        progress_seconds=progress_seconds(settings, service.spec, prepared),
        template=replica_template(owner, service, placed, prepared, config, name),
        plan=_plain(dataclasses.asdict(placed.plan)),
    )


def controller_revision(owner: Owner, frozen: Frozen) -> Json:
    """The object; its data can't be changed once it is there."""
    data = {key: value for key, value in dataclasses.asdict(frozen).items() if key not in ("name", "number")}
    return owner.child("apps/v1", "ControllerRevision", frozen.name, revision=frozen.number, data=data)


def thaw(revision: Mapping[str, Any]) -> Frozen:
    """What a live ControllerRevision keeps, written by this release or another: the template is what counts."""
    data = revision.get("data", {})
    return Frozen(
        name=revision["metadata"]["name"],
        number=int(revision.get("revision", 0)),
        **{name: data.get(name, kind()) for name, kind in _KEPT.items()},
    )


_KEPT: dict[str, type[Any]] = {
    "engine": str,
    "reason": str,
    "summary": str,
    "fit": str,
    "resolved_revision": str,
    "resource": str,
    "progress_seconds": int,
    "template": dict,
    "plan": dict,
}


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON returns them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
