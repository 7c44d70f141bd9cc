"""Whether an object must be applied: only when what we want, or who owns it, is not what the server has.

Values are not compared: the server fills in defaults and rewrites quantities, so equal would often look different.
Instead every applied object carries the digest of what was applied, and managedFields tell which fields are still
ours: the server takes a field from us the moment someone else changes or removes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from llmservice_kube.client import MANAGER
from llmservice_kube.kinds import Json

APPLIED = "llmservice.dev/applied"
"""Annotation with the digest of the applied object."""
_IDENTITY = frozenset(("name", "namespace", "uid", "resourceVersion"))


def stamped(desired: Mapping[str, Any]) -> Json:
    """The object with its digest on it: this is what is applied."""
    text = json.dumps(desired, sort_keys=True, separators=(",", ":"))
    metadata = dict(desired["metadata"])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**desired, "metadata": metadata}


def must_apply(wanted: Mapping[str, Any], live: Mapping[str, Any] | None) -> bool:
    """True when `wanted` (stamped) is absent, was applied with other content, or lost a field to somebody."""
    if live is None:
        return True
    annotations = live["metadata"].get("annotations", {})
    if annotations.get(APPLIED) != wanted["metadata"]["annotations"][APPLIED]:
        return True
    return not _covers(_owned(live), _content(wanted))


def _content(wanted: Mapping[str, Any]) -> Json:
    """What managedFields speak of: everything but the object's identity."""
    metadata = {name: value for name, value in wanted["metadata"].items() if name not in _IDENTITY}
    rest = {name: value for name, value in wanted.items() if name not in ("apiVersion", "kind", "metadata")}
    return {**rest, "metadata": metadata}


def _owned(live: Mapping[str, Any]) -> Json:
    for entry in live["metadata"].get("managedFields", ()):
        if (entry.get("manager"), entry.get("operation"), entry.get("subresource", "")) == (MANAGER, "Apply", ""):
            fields: Json = entry["fieldsV1"]
            return fields
    return {}


def _covers(owned: Json, value: Any) -> bool:
    """Whether every leaf of `value` is in the field set. An empty set stands for a whole value (atomic, or a leaf)."""
    if isinstance(value, Mapping):
        return all(
            f"f:{name}" in owned and (not owned[f"f:{name}"] or _covers(owned[f"f:{name}"], child))
            for name, child in value.items()
            if child is not None
        )
    if isinstance(value, list):
        return all(_covers_item(owned, item) for item in value)
    return True


def _covers_item(owned: Json, item: Any) -> bool:
    """An item of a list that merges: of a set by its value, of a map by its keys (some of them may be defaults)."""
    if not isinstance(item, Mapping):
        return f"v:{json.dumps(item)}" in owned
    for name, child in owned.items():
        if name.startswith("k:"):
            keys = json.loads(name[2:])
            if all(item.get(key, value) == value for key, value in keys.items()):
                return not child or _covers(child, item)
    return False
