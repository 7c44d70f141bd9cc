"""The watch cache: what the API server last said about services and what belongs to them.

Watch events fill it; a relist now and then corrects it, because a watch can lose events, deletions above all (objects
that went away in a gap would stay for ever as ghosts). Objects are held as compact JSON: a quarter of the memory of
dictionaries, and every reader gets a copy of its own. Of managedFields, which are half of an object, only ours is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from pydantic_core import from_json, to_json

from llmservice_kube.client import MANAGER
from llmservice_kube.kinds import LLM_SERVICE, Json, Kind

Key = tuple[str, str]
"""(namespace, name) of an LLMService."""
Place = tuple[str, str]
"""(namespace, name) of any object."""


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    owner: Key
    text: bytes
    asked: tuple[object, ...]


@dataclass(slots=True)
class _Shelf:
    """The objects of one kind."""

    entries: dict[Place, _Entry] = field(default_factory=dict)
    by_owner: dict[Key, set[Place]] = field(default_factory=dict)
    listed: bool = False

    def put(self, place: Place, entry: _Entry) -> None:
        self.drop(place)
        self.entries[place] = entry
        self.by_owner.setdefault(entry.owner, set()).add(place)

    def drop(self, place: Place) -> None:
        if (entry := self.entries.pop(place, None)) is None:
            return
        self.by_owner[entry.owner].discard(place)
        if not self.by_owner[entry.owner]:
            del self.by_owner[entry.owner]


class Cache:
    """Objects by kind, place and owning service. `owner_label` names the label that carries the service's name."""

    def __init__(self, kinds: Iterable[Kind], owner_label: str) -> None:
        self._shelves = {kind: _Shelf() for kind in kinds}
        self._owner_label = owner_label

    @property
    def complete(self) -> bool:
        """True once every kind was listed: only then does absence mean anything."""
        return all(shelf.listed for shelf in self._shelves.values())

    def event(self, kind: Kind, event_type: str | None, obj: Json) -> Key | None:
        """Take one watch event in; the service to look at, or None when the event was older than what is known."""
        shelf, place, version = self._shelves[kind], place_of(obj), int(obj["metadata"]["resourceVersion"])
        known = shelf.entries.get(place)
        gone = event_type == "DELETED"
        if known is not None and (known.version > version or (known.version == version and not gone)):
            return None
        if gone:
            shelf.drop(place)
        else:
            whole = {"apiVersion": kind.api_version, "kind": kind.kind, **obj, "metadata": _lean(obj["metadata"])}
            asked = _asked(obj) if kind == LLM_SERVICE else ()
            shelf.put(place, _Entry(version, self._owner(kind, obj), to_json(whole), asked))
        return self._owner(kind, obj)

    def replace(self, kind: Kind, namespace: str | None, items: Iterable[Json], resource_version: str) -> set[Key]:
        """Take a whole list in (of one namespace, or of all); the services for which something was not known.

        What a watch brought after the list was read is newer than the list and stays.
        """
        there, changed = set[Place](), set[Key]()
        for obj in items:
            there.add(place_of(obj))
            if (key := self.event(kind, "MODIFIED", obj)) is not None:
                changed.add(key)
        return changed | self.sweep(kind, namespace, there, resource_version)

    def sweep(self, kind: Kind, namespace: str | None, there: Set[Place], resource_version: str) -> set[Key]:
        """Forget what a list of this version did not have; its services. The kind counts as listed from now on."""
        shelf, read_at, changed = self._shelves[kind], int(resource_version), set[Key]()
        for place, entry in list(shelf.entries.items()):
            ghost = place not in there and entry.version <= read_at
            if ghost and namespace in (None, place[0]):
                shelf.drop(place)
                changed.add(entry.owner)
        shelf.listed = True
        return changed

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """A copy of the object, or None."""
        entry = self._shelves[kind].entries.get((namespace, name))
        return from_json(entry.text) if entry is not None else None

    def version(self, kind: Kind, namespace: str, name: str) -> int | None:
        """The object's resourceVersion, or None."""
        entry = self._shelves[kind].entries.get((namespace, name))
        return entry.version if entry is not None else None

    def asked(self, key: Key) -> tuple[object, ...] | None:
        """Equal as long as the service asks for the same, whatever becomes of its status; None without it."""
        entry = self._shelves[LLM_SERVICE].entries.get(key)
        return entry.asked if entry is not None else None

    def of(self, key: Key) -> Iterator[Json]:
        """Copies of everything that carries the service's label, whoever owns it."""
        for kind, shelf in self._shelves.items():
            if kind != LLM_SERVICE:
                for place in sorted(shelf.by_owner.get(key, ())):
                    yield from_json(shelf.entries[place].text)

    def services(self) -> list[Key]:
        """Every LLMService that is known."""
        return sorted(self._shelves[LLM_SERVICE].entries)

    def _owner(self, kind: Kind, obj: Json) -> Key:
        namespace, name = place_of(obj)
        return namespace, name if kind == LLM_SERVICE else obj["metadata"].get("labels", {}).get(self._owner_label, "")


def _lean(metadata: Json) -> Json:
    fields = [entry for entry in metadata.get("managedFields", ()) if entry.get("manager") == MANAGER]
    return {**metadata, "managedFields": fields}


def _asked(service: Json) -> tuple[object, ...]:
    """A new spec has a new generation; of the metadata labels and annotations count."""
    names = ("uid", "generation", "labels", "annotations", "deletionTimestamp")
    return tuple(service["metadata"].get(name) for name in names)


def place_of(obj: Json) -> Place:
    """Where an object is."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
