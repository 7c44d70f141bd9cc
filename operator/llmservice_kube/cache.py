"""The cache: what the API server last said about objects, by kind, place and owner.

Watch events, lists and the answers to own writes fill it, in whatever order they come. One rule keeps it true: of each
place only what is newer than what is known counts, and absence is knowledge too. A deletion is remembered with its
version (a tombstone), and a list makes known everything up to its own: an object that it did not have and that is
older went away. So nothing that was deleted comes back by a list that was read before, by a late event, or by the
late answer to a write; what takes its name again is newer than its deletion. A list also ends the tombstones that it
covers, which bounds them.

Objects are held as compact JSON: a quarter of the memory of dictionaries, and every reader gets a copy of its own. Of
managedFields, which are half of an object, only ours is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic_core import from_json, to_json

from llmservice_kube.answers import parsed, weight
from llmservice_kube.client import MANAGER
from llmservice_kube.kinds import LLM_SERVICE, Json, Kind
from llmservice_kube.unreadable import ERRORS, Read, StandIn, Unreadable, as_it_is, left_out

Key = tuple[str, str]
"""(namespace, name) of an LLMService."""
Place = tuple[str, str]
"""(namespace, name) of any object."""
Rare = Mapping[Kind, Collection[str]]
"""Kinds that are listed in some namespaces only, and these."""
Left = Callable[[Kind, str], None]
"""Gets (kind, uid) of an object that is there no longer."""
MOST_BYTES = 384 << 10
"""Of an object that is held: what a pod's annotations may have, and a third. Everything usual has a tenth."""
MOST_WEIGHT = 4 << 20
"""Of it as passes look at it, many at a time."""


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    uid: str
    owner: Key
    text: bytes
    asked: tuple[object, ...]


@dataclass(slots=True)
class _Shelf:
    """The objects of one kind. `lists` has the version of the newest list of each scope: a namespace, or None = all."""

    entries: dict[Place, _Entry] = field(default_factory=dict)
    by_owner: dict[Key, set[Place]] = field(default_factory=dict)
    gone: dict[Place, int] = field(default_factory=dict)
    """Tombstones: where an object went away, and at which version, as far as no list has told since."""
    lists: dict[str | None, int] = field(default_factory=dict)

    def put(self, place: Place, entry: _Entry) -> None:
        self.drop(place)
        self.gone.pop(place, None)
        self.entries[place] = entry
        self.by_owner.setdefault(entry.owner, set()).add(place)

    def drop(self, place: Place) -> _Entry | None:
        if (entry := self.entries.pop(place, None)) is not None:
            self.by_owner[entry.owner].discard(place)
            if not self.by_owner[entry.owner]:
                del self.by_owner[entry.owner]
        return entry

    def listed(self, namespace: str) -> int:
        """Up to which version everything in the namespace is known by lists; 0 = it was not listed."""
        return max(self.lists.get(None, 0), self.lists.get(namespace, 0))


class Cache:
    """Objects by kind, place and owning service. `owner_label` names the label that carries the service's name.

    `namespaces` are those that are listed, each by itself; empty = all of them at once. `left` is told of every object
    that goes, however that became known. An object is held as `read` gives it. In place of one that can't be read its
    `stand_in` is held; where there is none it is not taken in, and what was held of it stays. `rare` kinds are in some
    of the namespaces only.
    """

    def __init__(
        self,
        kinds: Iterable[Kind],
        owner_label: str,
        namespaces: Sequence[str] = (),
        left: Left = lambda kind, uid: None,
        read: Read = as_it_is,
        stand_in: StandIn = left_out,
        rare: Rare | None = None,
    ) -> None:
        self.unreadable = Unreadable()
        self._read = read
        self._stand_in = stand_in
        self._shelves = {kind: _Shelf() for kind in kinds}
        self._owner_label = owner_label
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._left = left
        self._rare = rare or {}

    @property
    def complete(self) -> bool:
        """True once every kind was listed in every namespace."""
        return all(self._knows(scope) for scope in self._scopes)

    @property
    def useful(self) -> bool:
        """True once every kind was listed somewhere: in one of the namespaces, or in all at once."""
        return any(self._knows(scope) for scope in self._scopes)

    def knows(self, namespace: str) -> bool:
        """Whether every kind was listed in this namespace: only then does absence mean anything there."""
        return self._knows(None) or self._knows(namespace)

    def _knows(self, scope: str | None) -> bool:
        there = (shelf for kind, shelf in self._shelves.items() if scope in self._rare.get(kind, (scope,)))
        return all(scope in shelf.lists for shelf in there)

    def event(self, kind: Kind, event_type: str | None, obj: Json) -> Key | None:
        """Take in a watch event, or the answer to a write; the service to look at, or None when it was no news."""
        try:
            return self._take(kind, event_type, obj, lambda: self._whole(kind, obj))
        except ERRORS as error:
            self.unreadable.left_out(kind, obj, error)
            return self._in_place(kind, event_type, obj, error)

    def _in_place(self, kind: Kind, event_type: str | None, obj: Json, error: Exception) -> Key | None:
        try:
            if (instead := self._stand_in(kind, obj, error)) is None:
                return None
            return self._take(kind, event_type, obj, lambda: to_json(instead))
        except ERRORS:
            return None  # not even its names can be read

    def _whole(self, kind: Kind, obj: Json) -> bytes:
        """An object as it is held. Raises one of ERRORS when it can't be read."""
        obj = self._read(kind, parsed(obj))
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **obj, "metadata": _lean(obj["metadata"])}
        text = to_json(whole)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 10} KiB")
        if weight(text) > MOST_WEIGHT:
            raise ValueError(f"it takes more than {MOST_WEIGHT >> 20} MiB to look at")
        return text

    def _take(self, kind: Kind, event_type: str | None, obj: Json, text: Callable[[], bytes]) -> Key | None:
        shelf, place, version = self._shelves[kind], place_of(obj), int(obj["metadata"]["resourceVersion"])
        gone = event_type == "DELETED"
        if not self._news(shelf, place, version, gone, self._listed(kind, obj)):
            return None
        owner = self._owner(kind, obj)
        if gone:
            self._drop(kind, place)
            shelf.gone[place] = version
            return owner
        asked = _asked(obj) if kind == LLM_SERVICE else ()
        entry = _Entry(version, str(obj["metadata"].get("uid", "")), owner, text(), asked)
        before = shelf.entries.get(place)
        shelf.put(place, entry)
        if before is not None and before.uid != entry.uid:
            self._left(kind, before.uid)
        return owner

    def listing(self, kind: Kind, namespace: str | None, resource_version: str) -> Listing:
        """Begin to take in a list of this version, of one namespace or of all; it may be read page by page."""
        return Listing(self, kind, namespace, int(resource_version))

    def replace(self, kind: Kind, namespace: str | None, items: Iterable[Json], resource_version: str) -> set[Key]:
        """Take a whole list in; the services for which something was not known."""
        listing = self.listing(kind, namespace, resource_version)
        changed = {key for obj in items if (key := listing.take(obj)) is not None}
        return changed | listing.end()

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """A copy of the object, or None."""
        entry = self._shelves[kind].entries.get((namespace, name))
        return from_json(entry.text) if entry is not None else None

    def version(self, kind: Kind, namespace: str, name: str) -> int | None:
        """The object's resourceVersion, or None."""
        entry = self._shelves[kind].entries.get((namespace, name))
        return entry.version if entry is not None else None

    def uid(self, kind: Kind, namespace: str, name: str) -> str | None:
        """The object's uid, or None."""
        entry = self._shelves[kind].entries.get((namespace, name))
        return entry.uid if entry is not None else None

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

    def services_in(self, namespace: str) -> list[str]:
        """Names of the LLMServices of a namespace, in no order."""
        return [name for where, name in self._shelves[LLM_SERVICE].entries if where == namespace]

    def can_read(self, kind: Kind, obj: Json) -> bool:
        """Whether an object would be taken in."""
        try:
            self._read(kind, parsed(obj))
        except ERRORS:
            return False
        return True

    def tombstones(self) -> int:
        """Deletions that are remembered."""
        return sum(len(shelf.gone) for shelf in self._shelves.values())

    def _news(self, shelf: _Shelf, place: Place, version: int, gone: bool, listed: bool) -> bool:
        """Whether this is newer than what is known of the place. `listed` = lists have objects like this one."""
        if (known := shelf.entries.get(place)) is not None:
            return version > known.version or (gone and version == known.version)
        if not listed:
            # Someone took its label away, so it left the watch at this very version without being deleted.
            return version >= shelf.gone.get(place, 0)
        return version > max(shelf.gone.get(place, 0), shelf.listed(place[0]))

    def _drop(self, kind: Kind, place: Place) -> Key | None:
        if (entry := self._shelves[kind].drop(place)) is None:
            return None
        self._left(kind, entry.uid)
        return entry.owner

    def _listed(self, kind: Kind, obj: Json) -> bool:
        return kind == LLM_SERVICE or self._owner_label in (obj["metadata"].get("labels") or ())

    def _owner(self, kind: Kind, obj: Json) -> Key:
        namespace, name = place_of(obj)
        labels = obj["metadata"].get("labels") or {}
        return namespace, name if kind == LLM_SERVICE else labels.get(self._owner_label, "")


class Listing:
    """A list on its way into a cache: `take` each object, then `end`. One that was not read to its end changes nothing
    of what is known to be absent."""

    def __init__(self, cache: Cache, kind: Kind, namespace: str | None, version: int) -> None:
        self._cache = cache
        self._shelf = cache._shelves[kind]
        self._kind = kind
        self._namespace = namespace
        self._version = version
        self._there = set[Place]()
        if version < self._shelf.lists.get(namespace, 0):
            # No list is older than one that had ended before it began: etcd was restored, and versions began anew.
            self._forget(lambda _: True)
            self._forgive(lambda _: True)
            del self._shelf.lists[namespace]

    def take(self, obj: Json) -> Key | None:
        """Take in an object of the list; the service to look at, or None when it was no news."""
        with contextlib.suppress(*ERRORS):
            self._there.add(place_of(obj))
        return self._cache.event(self._kind, "MODIFIED", obj)

    def end(self) -> set[Key]:
        """Forget what the list did not have, apart from what is newer than the list; its services."""
        changed = self._forget(lambda place: place not in self._there and self._older(place))
        self._forgive(lambda at: at <= self._version)
        lists = self._shelf.lists
        lists[self._namespace] = max(self._version, lists.get(self._namespace, 0))
        return changed

    def _forget(self, which: Callable[[Place], bool]) -> set[Key]:
        found = [place for place in self._shelf.entries if self._in_scope(place) and which(place)]
        return {owner for place in found if (owner := self._cache._drop(self._kind, place)) is not None}

    def _forgive(self, which: Callable[[int], bool]) -> None:
        gone = self._shelf.gone
        for place in [place for place, at in gone.items() if self._in_scope(place) and which(at)]:
            del gone[place]

    def _older(self, place: Place) -> bool:
        return self._shelf.entries[place].version <= self._version

    def _in_scope(self, place: Place) -> bool:
        return self._namespace in (None, place[0])


def _lean(metadata: Json) -> Json:
    fields = [entry for entry in metadata.get("managedFields") or () if entry.get("manager") == MANAGER]
    return {**metadata, "managedFields": fields}


def _asked(service: Json) -> tuple[object, ...]:
    """A new spec has a new generation; of the metadata labels and annotations count."""
    names = ("uid", "generation", "labels", "annotations", "deletionTimestamp")
    return tuple(service["metadata"].get(name) for name in names)


def place_of(obj: Json) -> Place:
    """Where an object is."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
