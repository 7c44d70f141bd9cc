"""Whether an object must be applied: only when what we want, or who owns it, is not what the server has. And why.

Values are not compared: the server fills in defaults and rewrites quantities, so equal would often look different.
Instead every applied object carries the digest of what was applied, and managedFields tell which fields are still
ours: the server takes a field from us the moment someone else changes or removes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmservice_kube.client import MANAGER
from llmservice_kube.kinds import Json
from llmservice_operator.facts.quantity import parse_quantity

APPLIED = "llmservice.dev/applied"
"""Annotation with the digest of the applied object."""
_IDENTITY = frozenset(("name", "namespace", "uid", "resourceVersion"))
_OURS = f".metadata.annotations.{APPLIED}"
MOST_FIELDS = 6
"""Fields that a sentence names."""


def stamped(desired: Mapping[str, Any]) -> Json:
    """The object with its digest on it: this is what is applied."""
    text = json.dumps(desired, sort_keys=True, separators=(",", ":"))
    metadata = dict(desired["metadata"])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**desired, "metadata": metadata}


def must_apply(wanted: Mapping[str, Any], live: Mapping[str, Any] | None) -> bool:
    """True when `wanted` (stamped) is absent, was applied with other content, or lost a field to somebody."""
    if live is None or digest_of(live) != digest_of(wanted):
        return True
    return next(_missing(_owned(live), _content(wanted)), None) is not None


def why(wanted: Mapping[str, Any], live: Mapping[str, Any] | None) -> str:
    """In a few words, for the log, why `wanted` must be applied: which fields differ, without their values."""
    if live is None:
        return "it was not there"
    if digest_of(live) != digest_of(wanted):
        fields = [field for field in _differing(_content(wanted), _content(live)) if field != _OURS]
        gone = list(_surplus(_owned(live), _content(wanted)))
        told = [f"{listed(fields)} differ" if fields else "", f"{listed(gone)} no longer wanted" if gone else ""]
        return "; ".join(part for part in told if part) or "it was applied with other content"
    return f"{listed(_missing(_owned(live), _content(wanted)))} taken by somebody"


def listed(fields: Iterable[str]) -> str:
    """The first few fields, `spec.replicas, spec.template`, and how many more."""
    found = [field.removeprefix(".") for field in fields]
    more = f" and {len(found) - MOST_FIELDS} more" if len(found) > MOST_FIELDS else ""
    return ", ".join(found[:MOST_FIELDS]) + more


def taken(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Which fields of ours were taken, and the managers that now own one (none for what was removed).

    `live` comes with all of its managedFields. Another digest, under our own manager, is another installation's.
    """
    content = _content(wanted)
    other = digest_of(live) != digest_of(wanted)
    lost = list(_differing(content, _content(live)) if other else _missing(_owned(live), content))
    managers = [
        str(entry.get("manager"))
        for entry in live["metadata"].get("managedFields", ())
        if _owns(entry.get("fieldsV1", {}), content, lost) and not entry.get("subresource")
    ]
    return [field for field in lost if field != _OURS] or lost, list(dict.fromkeys(managers))


def _owns(owned: Json, content: Json, fields: list[str]) -> bool:
    missing = tuple(_missing(owned, content))
    return any(not any(field == gap or field.startswith((f"{gap}.", f"{gap}[")) for gap in missing) for field in fields)


def digest_of(obj: Mapping[str, Any]) -> str:
    """The digest that an object carries; empty when it has none."""
    found: str = obj["metadata"].get("annotations", {}).get(APPLIED, "")
    return found


def _content(obj: Mapping[str, Any]) -> Json:
    """What managedFields speak of: everything but the object's identity."""
    metadata = {name: value for name, value in obj["metadata"].items() if name not in _IDENTITY}
    rest = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    return {**rest, "metadata": metadata}


def _owned(live: Mapping[str, Any]) -> Json:
    for entry in live["metadata"].get("managedFields", ()):
        if (entry.get("manager"), entry.get("operation"), entry.get("subresource", "")) == (MANAGER, "Apply", ""):
            fields: Json = entry["fieldsV1"]
            return fields
    return {}


def _missing(owned: Json, value: Any, at: str = "") -> Iterator[str]:
    """Where `value` has a leaf that is not in the field set. An empty set is a whole value (atomic, or a leaf)."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            if child is None:
                continue
            if f"f:{name}" not in owned:
                yield f"{at}.{name}"
            elif inner := owned[f"f:{name}"]:
                yield from _missing(inner, child, f"{at}.{name}")
    elif isinstance(value, list):
        for item in value:
            if (found := _item(owned, item)) is None:
                yield f"{at}[{_label(item)}]"
            elif found:
                yield from _missing(found, item, f"{at}[{_label(item)}]")


def _item(owned: Json, item: Any) -> Json | None:
    """The set of an item of a list that merges: of a set by its value, of a map by its keys, some of them defaults."""
    if not isinstance(item, Mapping):
        return {} if f"v:{json.dumps(item)}" in owned else None
    for name, child in owned.items():
        if name.startswith("k:"):
            keys = json.loads(name[2:])
            if all(item.get(key, value) == value for key, value in keys.items()):
                found: Json = child
                return found
    return None


def _label(item: Any) -> str:
    """How an item of a list is told from its neighbours."""
    if not isinstance(item, Mapping):
        return str(item)
    known = (name for name in ("name", "containerPort", "port", "type", "uid") if name in item)
    return next((f"{name}={item[name]}" for name in known), "...")


def _surplus(owned: Json, value: Any, at: str = "") -> Iterator[str]:
    """Where the field set has what `value` has not."""
    for step, inner in owned.items():
        kind, _, text = step.partition(":")
        if kind == "f" and isinstance(value, Mapping):
            child, where = value.get(text), f"{at}.{text}"
        elif kind == "k" and isinstance(value, list):
            keys = json.loads(text)
            child, where = _with_keys(value, keys), f"{at}[{_label(keys)}]"
        else:
            continue
        if child is None:
            yield where
        else:
            yield from _surplus(inner, child, where)


def _with_keys(items: list[Any], keys: Json) -> Any:
    maps = (item for item in items if isinstance(item, Mapping))
    return next((item for item in maps if all(item.get(key, value) == value for key, value in keys.items())), None)


def _differing(value: Any, live: Any, at: str = "") -> Iterator[str]:
    """Where `live` has another value, or none. What only `live` has is the server's or somebody else's."""
    if isinstance(value, Mapping) and isinstance(live, Mapping):
        for name, child in value.items():
            if child is not None:
                yield from _differing(child, live.get(name), f"{at}.{name}")
    elif isinstance(value, list) and isinstance(live, list) and all(isinstance(item, Mapping) for item in value):
        if len(value) != len(live) and any(_label(item) == "..." for item in value):
            yield at  # no item of it is known by a name
            return
        for item, other in zip(value, live, strict=False):
            label = _label(item)
            same = other if label == "..." else next((found for found in live if _label(found) == label), None)
            yield from _differing(item, same, f"{at}[{label}]")
        yield from (f"{at}[{_label(item)}]" for item in value[len(live) :])
    elif not _equal(value, live):
        yield at


def _equal(value: Any, live: Any) -> bool:
    """Quantities are equal as numbers: the server rewrites them."""
    if value == live or (not value and live is None):
        return True
    try:
        return parse_quantity(value) == parse_quantity(live)
    except ValueError:
        return False
