"""Objects that can't be read: each is left out and told once, and costs nobody but itself."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator

from llmservice_kube.answers import MARK, NAMES, parsed
from llmservice_kube.kinds import Json, Kind

ERRORS = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading an object of an unforeseen shape raises."""
Read = Callable[[Kind, Json], Json]
"""Gives an object as it is to be held. Raises one of ERRORS when it can't be read."""
StandIn = Callable[[Kind, Json, Exception], Json | None]
"""Gives what is held in place of an object that can't be read, or None: it is left out."""
REMEMBERED = 1000
"""Objects that were told of; one that was forgotten is told of again."""

logger = logging.getLogger(__name__)


def as_it_is(kind: Kind, obj: Json) -> Json:
    """Reads everything."""
    return obj


def left_out(kind: Kind, obj: Json, error: Exception) -> None:
    """Nothing is held in place of anything."""


def names_and_status(kind: Kind, obj: Json, error: Exception) -> Json:
    """A stand-in that tells which object it is, what was said of it, and as `answers.MARK` why it can't be read."""
    metadata = {name: obj["metadata"][name] for name in NAMES if name in obj["metadata"]}
    head = {"apiVersion": kind.api_version, "kind": kind.kind}
    return {**head, "metadata": metadata, "status": obj.get("status") or {}, MARK: str(error)}


class Unreadable:
    """`counts` has the objects that were left out, by kind: each object counts once for each reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._told: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    def left_out(self, kind: Kind, obj: Json, error: Exception) -> None:
        """This object could not be read."""
        metadata = obj.get("metadata") if isinstance(obj, dict) else None
        metadata = metadata if isinstance(metadata, dict) else {}
        namespace, name = (str(metadata.get(key, "")) for key in ("namespace", "name"))
        told = kind.kind, namespace, name, f"{type(error).__name__}: {error}"
        if told in self._told:
            self._told.move_to_end(told)
            return
        self._told[told] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self.counts[kind.kind] += 1
        where = f"{namespace}/{name}" if namespace else name
        logger.error("%s %s can't be read and is left out: %s", kind, where, told[-1])

    def readable(self, kind: Kind, objects: Iterable[Json], read: Read) -> Iterator[Json]:
        """Those that can be read, as `read` gives them."""
        for obj in objects:
            try:
                yield read(kind, parsed(obj))
            except ERRORS as error:
                self.left_out(kind, obj, error)
