"""Reading an LLMService as the API server holds it, by the rules of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from llmservice_api.conditions import Reason
from llmservice_api.sentences import explain, field_path
from llmservice_api.v1alpha1 import LLMService
from llmservice_operator.facts.access import unreachable
from llmservice_operator.facts.allowed import not_allowed
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.newer import unknown_fields, way_out, without
from llmservice_operator.facts.pod_fields import forbidden, repeated
from llmservice_operator.facts.pod_leave import not_lent
from llmservice_operator.facts.pod_shapes import misshapen
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Json
from llmservice_runtime.contract.errors import UserError
from llmservice_scaling.asked import rules

NAME = ("metadata", "name")
RENAMED = "A name can't be changed: make the service anew under another one, and delete this one."
"""An older schema let it in."""
WRITTEN = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class Read:
    """The typed object. `ignored` are fields that a newer CustomResourceDefinition has (`spec.turbo`)."""

    service: LLMService
    ignored: tuple[str, ...] = ()


def read_service(service: Json, config: OperatorConfig) -> Read | Problem:
    """The typed object, or what is wrong with it here. Its status is ours and not read."""
    written = {name: service[name] for name in WRITTEN if name in service}
    unknown: tuple[tuple[int | str, ...], ...] = ()
    try:
        try:
            parsed = LLMService.model_validate(written)
        except ValidationError as error:
            if not (unknown := unknown_fields(error.errors(include_url=False))):
                raise
            parsed = LLMService.model_validate(without(written, unknown))
    except ValidationError as error:
        return Problem(Reason.INVALID, _sentences(error))
    spec = parsed.spec
    return (
        _not_in_a_cluster(parsed)
        or _no_schedule(parsed)
        or _not_a_pod(parsed)
        or _not_in_a_template(parsed)
        or not_lent(spec, config)
        or unreachable(spec, config)
        or not_allowed(spec, config)
        or Read(parsed, tuple(map(field_path, unknown)))
    )


def _not_in_a_cluster(service: LLMService) -> Problem | None:
    uris = {"model": service.spec.model.uri}
    uris |= {f"adapters[{number}]": adapter.uri for number, adapter in enumerate(service.spec.adapters)}
    for field, uri in uris.items():
        if uri.startswith("file://") and not uri.startswith("file:///"):
            other = "pvc://CLAIM/PATH or a hub" if field == "model" else "a hub"
            return Problem(
                Reason.INVALID,
                f"spec.{field}.uri: {uri} is a relative path. In a cluster file:// is a path inside the runtime image: "
                f"write file:///path, or use {other}.",
            )
    return None


def _no_schedule(service: LLMService) -> Problem | None:
    if service.spec.scaling is None:
        return None
    try:
        rules(service.spec.scaling)
    except UserError as error:
        return Problem(Reason.INVALID, f"{error.reason} {error.remedy}")
    return None


def _not_a_pod(service: LLMService) -> Problem | None:
    template = service.spec.pod_template
    wrong = misshapen(template.spec) if template else ()
    said = [f"spec.podTemplate.{field}: {what}. Write it as in a pod, or leave it out." for field, what in wrong]
    return Problem(Reason.INVALID, " ".join(said[:5])) if said else None


def _not_in_a_template(service: LLMService) -> Problem | None:
    said = [f"spec.podTemplate.{field} is the plan's. {remedy}" for field, remedy in forbidden(service.spec)]
    said += [f"spec.podTemplate.{field} stands twice. Keep one." for field in repeated(service.spec)]
    return Problem(Reason.INVALID, " ".join(said[:5])) if said else None


def _sentences(error: ValidationError) -> str:
    said = []
    for details in error.errors(include_url=False):
        location, reason, remedy = explain(details, LLMService)
        out = f"{remedy} {RENAMED}" if location == NAME else way_out(details) or remedy
        said.append(f"{field_path(location)}: {reason} {out}")
    return " ".join(said[:5])
