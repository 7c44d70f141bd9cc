"""What an installation lends to services beyond a pod of their namespace: who may write an LLMService may run no more.

Pod Security does the same for a whole namespace, where its owner has switched it on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from llmservice_api.conditions import Reason
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.pod_rules import POD, Fields, annotation
from llmservice_operator.facts.problem import Problem

SHOWN = 5
"""So many fields are named at once."""
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """One field of the template that needs leave.

    `place` is where it stands, `path` what an installation writes to lend it (without names and numbers), `what` it
    gives pods; empty = the field is unknown, and `known` are the fields that could stand there.
    """

    place: str
    path: str
    value: Any
    what: str
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        lend = f"have {self.path} added to the chart's runtime.podFields (runtime.nodeAccess lends everything)"
        if self.what:
            return (
                f"spec.podTemplate.{self.place}: {_shown(self.value)}gives pods {self.what}, which this installation "
                f"does not lend to services. Leave it out, or {lend}."
            )
        close = get_close_matches(self.path.rpartition(".")[2], self.known, n=1)
        meant = f"Did you mean {close[0]}? Else" if close else "Leave it out, or"
        return (
            f"spec.podTemplate.{self.place}: it is no field that this operator knows of pods (of Kubernetes 1.34), so "
            f"what it reaches is not known either. {meant} {lend}."
        )


def not_lent(spec: LLMServiceSpec, config: OperatorConfig) -> Problem | None:
    """What of the spec reaches beyond a pod and is not lent; None when all of it is."""
    pod = spec.pod_template.spec if spec.pod_template else {}
    for field, path in _directories(spec, pod):
        if path not in config.host_paths:
            return _directory(field, path, config.host_paths)
    if config.node_access:
        return None
    said = [str(found) for found in reaches(spec) if not _lent(found.path, config.pod_fields)]
    return Problem(Reason.INVALID, " ".join(said[:SHOWN])) if said else None


def reaches(spec: LLMServiceSpec) -> Iterator[Reach]:
    """Everything in the template that needs leave, apart from directories of nodes."""
    if spec.pod_template is None:
        return
    for name, value in spec.pod_template.metadata.annotations.items():
        if (found := annotation(name)) and (what := found[1](value)):
            yield Reach(f"metadata.annotations.{name}", f"metadata.annotations.{found[0]}", value, what)
    yield from _walk(spec.pod_template.spec, POD, "spec", "")


def _walk(value: Any, fields: Fields, place: str, path: str) -> Iterator[Reach]:
    """What is of another shape than the field's is left to others: it is not taken."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, Mapping) else index
            yield from _walk(item, fields, f"{place}[{name}]", path)
    elif isinstance(value, Mapping):
        for name, below in value.items():
            if below is not None and below not in ([], {}):
                yield from _field(name, below, fields, f"{place}.{name}", f"{path}.{name}".removeprefix("."))


def _field(name: str, value: Any, fields: Fields, place: str, path: str) -> Iterator[Reach]:
    if name not in fields:
        yield Reach(place, path, value, "", tuple(fields))
        return
    rule = fields[name]
    if isinstance(rule, Mapping):
        yield from _walk(value, rule, place, path)
    elif rule is not None and (what := rule(value)):
        yield Reach(place, path, value, what)


def _lent(path: str, fields: tuple[str, ...]) -> bool:
    return any(path == field or path.startswith(f"{field}.") for field in fields)


def _shown(value: Any) -> str:
    """A value in front of what it does, when it is short."""
    text = json.dumps(value, default=str)
    return f"{text} " if len(text) <= 60 else "it "


def _directory(field: str, path: str, lent: tuple[str, ...]) -> Problem:
    said = f"It lends {', '.join(lent)}." if lent else "It lends none."
    return Problem(
        Reason.INVALID,
        f"{field}: {path} is no directory of the nodes that this installation lends to services. {said} Have it added "
        "to the chart's runtime.hostPaths, or keep the model on a PersistentVolumeClaim.",
    )


def _directories(spec: LLMServiceSpec, pod: Json) -> Iterator[tuple[str, str]]:
    """(field, path) of every directory of the node that the spec names, the cache first."""
    if spec.cache.host_path is not None:
        yield "spec.cache.hostPath.path", spec.cache.host_path.path
    volumes = pod.get("volumes")
    for volume in volumes if isinstance(volumes, list) else ():
        if isinstance(volume, Mapping) and isinstance(volume.get("hostPath"), Mapping):
            name, path = volume.get("name", ""), volume["hostPath"].get("path", "")
            yield f"spec.podTemplate.spec.volumes[{name}].hostPath.path", str(path)
