"""The plan in force, frozen in a ControllerRevision: what runs changes when the spec does, never with the operator."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Container, Mapping
from typing import Any

from llmservice_api.labels import REVISION, SETTINGS
from llmservice_api.v1alpha1 import LLMService, LLMServiceSpec
from llmservice_api.workload import UpgradePolicy
from llmservice_operator.children.model_access import model_access
from llmservice_operator.children.prepare_job import job_name, model_digest
from llmservice_operator.children.replica_pod import pod_metadata, progress_seconds, replica_settings, replica_template
from llmservice_operator.children.revision_name import former_name, is_of, revision_name
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import KEPT, Frozen, thaw
from llmservice_operator.facts.owner import Json, Owner, digest
from llmservice_operator.facts.placing import Placed
from llmservice_planning.explain import summary
from llmservice_runtime.prepare.report import Prepared

_IN_PODS = (
    "images", "image_pull_policy", "image_pull_secrets", "environment", "ca_bundle", "private_sources",
    "prepare_requests", "prepare_limits", "release",
)  # fmt: skip
"""Fields of the installation that pods are made with."""


@functools.lru_cache(maxsize=8)
def installation_digest(config: OperatorConfig) -> str:
    """Of what an installation puts into pods: images, environment, pull secrets, and the operator's release."""
    known = dataclasses.asdict(config)
    return digest([known[name] for name in _IN_PODS])


def kept_revision(
    owner: Owner, spec: LLMServiceSpec, config: OperatorConfig, revisions: Mapping[str, Json]
) -> Frozen | None:
    """The newest plan for this spec; of a service that follows upgrades, for this installation as well."""
    names = (revision_name(owner, spec), former_name(owner, spec))
    found = [thaw(kept) for known, kept in revisions.items() if any(is_of(name, known) for name in names)]
    if spec.rollout.upgrade_policy is UpgradePolicy.FOLLOW:
        found = [frozen for frozen in found if frozen.installation == installation_digest(config)]
    return max(found, key=lambda frozen: frozen.number, default=None)


def freeze(
    owner: Owner,
    service: LLMService,
    placed: Placed,
    prepared: Prepared,
    config: OperatorConfig,
    number: int,
    taken: Container[str] = (),
    again: str = "",
) -> Frozen:
    """The plan and everything that follows from it, as of now. `taken` are names of revisions that are there."""
    name, installation = revision_name(owner, service.spec), installation_digest(config)
    if service.spec.rollout.upgrade_policy is UpgradePolicy.FOLLOW:
        name = f"{name}-{installation}"
    if name in taken:  # the same spec with other content
        name = f"{revision_name(owner, service.spec)}-{digest([installation, number])}"
    settings = replica_settings(service, placed, prepared, config)
    template, notes = replica_template(owner, service, placed, prepared, config, name)
    return Frozen(
        name=name,
        number=number,
        engine=placed.plan.engine.value,
        reason=placed.plan.reason,
        summary=summary(placed.plan),
        fit=placed.plan.fit.value,
        resolved_revision=prepared.revision,
        resource=placed.resource,
        image=placed.image,
        notes=[*placed.plan.notes, *notes],
        installation=installation,
        job=job_name(owner, service.spec),
        model=model_digest(service.spec),
        prepared=prepared.to_json(),
        progress_seconds=progress_seconds(settings, model_access(owner, service.spec), prepared),
        template=template,
        plan=_plain(dataclasses.asdict(placed.plan)),
        again=again,
    )


def brought_back(owner: Owner, spec: LLMServiceSpec, frozen: Frozen, number: int) -> Frozen:
    """A plan that no replica runs, with the labels and annotations that its service passes on by now.

    Those that are gone since go; the rest of it stays as it was. The same one when nothing differs.
    """
    before = frozen.template["metadata"]
    metadata = pod_metadata(owner, spec, frozen.name, before.get("annotations", {}).get(SETTINGS, ""))
    if metadata == before:
        return frozen
    name = f"{revision_name(owner, spec)}-{digest([frozen.name, number])}"
    metadata["labels"] = {**metadata["labels"], REVISION: name}
    return dataclasses.replace(frozen, name=name, number=number, template={**frozen.template, "metadata": metadata})


def controller_revision(owner: Owner, frozen: Frozen) -> Json:
    """The object; its data can't be changed once it is there."""
    data = {name: getattr(frozen, name) for name in KEPT}
    return owner.child("apps/v1", "ControllerRevision", frozen.name, revision=frozen.number, data=data)


def taken_up(owner: Owner, revisions: Mapping[str, Json], name: str) -> Json:
    """A kept plan that comes after another one once more: the newest, as its number says; its data stay as they are."""
    newest = max(int(kept.get("revision", 0)) for kept in revisions.values())
    return owner.child("apps/v1", "ControllerRevision", name, revision=newest + 1, data=revisions[name]["data"])


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON returns them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
