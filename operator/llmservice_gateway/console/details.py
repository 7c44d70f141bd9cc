"""A service in all that is known of it: plan, load, conditions, manifest. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_gateway.console.facts import Json
from llmservice_gateway.console.hiding import HIDDEN, NOTE, hidden

OMITTED = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "ownerReferences", "selfLink")
"""Of metadata: what nobody writes."""
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
OURS = "llmservice.dev/"
LONGEST = 200
"""Characters of an annotation that a person writes; ours may be longer."""
LEFT_OUT = "Annotations in which other tools keep what they need are left out: {}."
_MIB = re.compile(r"(\d+)Mi")
_SIZES = ("plannedMemory", "measuredMemory", "plannedGPUMemory", "measuredGPUMemory")
_SPEEDS = ("tokensPerSecond", "promptTokensPerSecond", "togetherTokensPerSecond")


def details(obj: Json, *, hides: bool) -> Json:
    """`hides`: what may be secret in the manifest is not shown."""
    status = obj.get("status") or {}
    load, written = status.get("load"), manifest(obj, hides=hides)
    tools = [name for name in _kept_by_tools(obj) if name != APPLIED]  # which nearly every service has
    notes = [NOTE] * (hides and HIDDEN in written) + [LEFT_OUT.format(", ".join(tools))] * bool(tools)
    return {
        "conditions": status.get("conditions") or [],
        "plan": _plan(status.get("plan")),
        "load": _load(load) if load else None,
        "speed": {
            "predicted": (status.get("plan") or {}).get("speed") or {},
            "measured": {name: (load or {}).get(name) for name in _SPEEDS},
        },
        "model": status.get("model") or {},
        "adapterStatus": status.get("adapters") or [],
        "manifest": written,
        "manifestNote": " ".join(notes),
    }


def manifest(obj: Json, *, hides: bool) -> str:
    """What a person would write to have the same, as YAML."""
    metadata = {name: said for name, said in obj["metadata"].items() if said and name not in OMITTED}
    tools = _kept_by_tools(obj)
    annotations = {name: said for name, said in metadata.pop("annotations", {}).items() if name not in tools}
    if annotations:
        metadata["annotations"] = annotations
    shown = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": metadata,
        "spec": _without_decided(_as_written(obj["spec"])),
    }
    return yaml.safe_dump(hidden(shown) if hides else shown, sort_keys=False, allow_unicode=True, width=120)


def _kept_by_tools(obj: Json) -> list[str]:
    """Annotations that nobody writes by hand: whole objects (as kubectl, kapp and Rancher keep what they applied), and
    what is as long. There may be anything in them, secrets too."""
    annotations: Mapping[str, Any] = obj["metadata"].get("annotations") or {}
    return [
        name
        for name, said in annotations.items()
        if not name.startswith(OURS)
        and (name == APPLIED or len(str(said)) > LONGEST or str(said).lstrip().startswith(("{", "[")))
    ]


def _without_decided(spec: Json) -> Json:
    """Without the number that demand has chosen: nobody writes it, and 0 is another one's wish to stop."""
    managed = (spec.get("scaling") or {"mode": ""}).get("mode", "Managed") == "Managed"
    return {name: said for name, said in spec.items() if not (managed and name == "replicas")}


def _as_written(spec: Json) -> Json:
    """Without what is so anyway; as it is, where it has fields that this release does not know."""
    try:
        return LLMServiceSpec.model_validate(spec).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    except ValidationError:
        return spec


def _plan(plan: Mapping[str, Any] | None) -> Json | None:
    if not plan or not plan.get("engine"):
        return None
    memory = [{**line, "planned": size(line.get("planned"))} for line in plan.get("memory") or ()]
    return {"notes": [], "rejected": [], **plan, "memory": memory}


def _load(load: Mapping[str, Any]) -> Json:
    lines = _lines(load.get("memory") or ())
    return {**load, **{name: size(load.get(name)) for name in _SIZES}, "memory": lines}


def _lines(lines: Iterable[Mapping[str, Any]]) -> list[Json]:
    return [{**line, "planned": size(line.get("planned")), "measured": size(line.get("measured"))} for line in lines]


def size(text: Any) -> int | None:
    """Bytes of what status writes as `123Mi`."""
    match = _MIB.fullmatch(text) if isinstance(text, str) else None
    return int(match[1]) << 20 if match else None
