"""Merging a partial pod into a whole one, as a strategic merge patch does, and saying what was overridden."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "claims": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "schedulingGates": "name",
}
"""Lists whose items are told apart, by the field that tells them."""
APPENDED = frozenset(("tolerations", "envFrom"))
"""Lists that grow: an item more never contradicts another."""
TERMS = "nodeSelectorTerms"
"""One of them must hold, so those of both sides are combined: both sides hold."""


@dataclass(slots=True)
class Merge:
    """`overridden` fills with the paths of what was there and now is something else."""

    overridden: list[str] = field(default_factory=list)

    def merge(self, base: Mapping[str, Any], patch: Mapping[str, Any], path: str = "") -> Json:
        """`base` with `patch` in it. None removes. Neither is changed."""
        result = dict(base)
        for name, value in patch.items():
            here = f"{path}.{name}" if path else name
            if value is None:
                if result.pop(name, None) is not None:
                    self.overridden.append(here)
            elif value != [] and value != base.get(name):
                result[name] = self._value(name, base.get(name), value, here)
        return result

    def _value(self, name: str, base: Any, value: Any, path: str) -> Any:
        if isinstance(base, Mapping) and isinstance(value, Mapping):
            return self.merge(base, value, path)
        if isinstance(base, list) and isinstance(value, list):
            if name in KEYS:
                return self._items(base, value, KEYS[name], path)
            if name in APPENDED:
                return [*base, *(item for item in value if item not in base)]
            if name == TERMS:
                return [self._both(*pair) for pair in itertools.product(base, value)]
        if base is not None:
            self.overridden.append(path)
        return _clean(value)

    def _items(self, base: list[Any], patch: list[Any], key: str, path: str) -> list[Any]:
        """Known items are merged where they stand, new ones follow."""
        result = list(base)
        told = [item.get(key) if isinstance(item, Mapping) else None for item in base]
        places = {name: index for index, name in enumerate(told) if isinstance(name, str)}
        for item in patch:
            name = item.get(key) if isinstance(item, Mapping) else None
            if isinstance(name, str) and name in places:
                index = places[name]
                result[index] = self.merge(result[index], item, f"{path}[{name}]")
            else:
                result.append(_clean(item))
        return result

    @staticmethod
    def _both(one: Any, other: Any) -> Any:
        """A term in which the expressions of two hold."""
        if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
            return other
        both = {**one, **{name: value for name, value in other.items() if value is not None}}
        for name, value in one.items():
            if isinstance(value, list) and isinstance(other.get(name), list):
                both[name] = [*value, *other[name]]
        return both


def _clean(value: Any) -> Any:
    """Without None and empty lists: there is nothing for them to remove."""
    if isinstance(value, Mapping):
        return {name: _clean(item) for name, item in value.items() if item is not None and item != []}
    return [_clean(item) for item in value] if isinstance(value, list) else value
