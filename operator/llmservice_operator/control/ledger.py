"""What was sent of each object, what became of it, and when to try again. Pure: the clock is passed in.

Three things are kept of an object. The version that was found to need no write, so that it need not be compared again.
A refusal, which stands until the write succeeds; one of what is wrong in itself is not asked for again before something
changed. And the writes of the last minutes: when the same content had to be written again and again, somebody undoes
it, and from then on it is written once a minute and told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import takewhile

from llmservice_operator.control.pace import CALM_SECONDS, PAUSE_SECONDS, Pace
from llmservice_operator.facts.values import NAME_CONFLICT, Refused

AGAIN_SECONDS = 600.0
"""What is wrong in itself is sent again when it was changed, or after so long: a policy may have been changed."""
LOOP_WRITES = 10
"""Writes of the same content in LOOP_SECONDS; one more, and somebody undoes them."""
LOOP_SECONDS = 60.0
SLOW_WRITES = 30
"""Writes in SLOW_SECONDS with no other content in between: somebody undoes each, who looks every now and then only.
An autoscaler on the Deployment comes 40 times, while a Job that fails at once is made anew less than 20 times. Two
contents that take turns are no such thing: an autoscaler on the service itself may want that."""
SLOW_SECONDS = 600.0
Place = tuple[str, str]
"""(kind, name) of an object of the service."""
Sent = tuple[str, str]
"""(uid of the live object, digest of what was sent)."""


@dataclass(slots=True)
class Line:
    """One object of a service."""

    as_wanted: tuple[int, str] | None = None
    """The version and the digest that were found to need no write."""
    refused: Refused | None = None
    """Why the last write was refused, or was not made."""
    contested: bool = False
    """Whether somebody undoes what is written."""
    _final: tuple[Sent, float] | None = None
    """What is no use to send again, and until when."""
    _writes: list[tuple[float, str]] = field(default_factory=list)
    """(when, digest) of the last writes, at most SLOW_SECONDS before the very last."""

    def stands(self, sent: Sent, now: float) -> bool:
        """Whether the refusal would only be repeated."""
        return self._final is not None and self._final[0] == sent and now < self._final[1]

    def to_try_again(self) -> bool:
        """Whether it was refused and may succeed without an edit: over quota, denied, or in somebody's way."""
        return self.refused is not None and self._final is None and not self.contested

    def refuse(self, refused: Refused, sent: Sent, now: float, final: bool) -> Refused:
        """The server did not take it; `final` when what was sent is wrong in itself."""
        self.refused, self.contested = refused, False
        self._final = (sent, now + AGAIN_SECONDS) if final and refused.reason != NAME_CONFLICT else None
        return refused

    def settle(self, version: int | None, digest: str, now: float) -> Refused | None:
        """It is as wanted; what is still to be told of it: somebody undid it a moment ago."""
        self._final = None
        if version is not None:
            self.as_wanted = version, digest
        if self.contested and now < self._last + CALM_SECONDS:
            return self.refused
        self.refused, self.contested = None, False
        return None

    def wrote(self, version: int, digest: str, now: float) -> None:
        """It was written."""
        self.as_wanted, self._final = (version, digest), None
        self._writes = [*(write for write in self._writes if write[0] > now - SLOW_SECONDS), (now, digest)]
        if not self.contested:
            self.refused = None

    def undone(self, digest: str, now: float) -> bool:
        """Whether this content was written so often lately that somebody must be undoing it."""
        same = [at for at, written in self._writes if written == digest]
        if self.contested:
            return bool(same)  # other content, of an edit, need not wait
        last = list(takewhile(lambda write: write[1] == digest, reversed(self._writes)))
        fast = sum(1 for at in same if at > now - LOOP_SECONDS) >= LOOP_WRITES
        return fast or sum(1 for at, _ in last if at > now - SLOW_SECONDS) >= SLOW_WRITES

    def paused(self, now: float) -> bool:
        """Whether it must wait for its next write, because somebody undoes them."""
        return now < self._last + PAUSE_SECONDS

    def contest(self, refused: Refused) -> Refused:
        """Somebody undoes what is written: from now on it is written rarely, and told."""
        self.refused, self.contested = refused, True
        return refused

    def due(self, now: float) -> float | None:
        """Seconds until a contested object is to be looked at again; None when it is not contested."""
        if not self.contested:
            return None
        times = (self._last + PAUSE_SECONDS, self._last + CALM_SECONDS)
        return min((at - now for at in times if at > now), default=PAUSE_SECONDS)

    def quiet(self, now: float) -> bool:
        """Whether there is nothing to be told of it, and its writes are too old to be those of a loop."""
        return self.refused is None and now > self._last + SLOW_SECONDS

    @property
    def _last(self) -> float:
        return self._writes[-1][0] if self._writes else float("-inf")


class Ledger:
    """The objects of every service, by the service's uid."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[Place, Line]] = {}
        self._paces: dict[str, dict[str, Pace]] = {}

    def line(self, uid: str, place: Place) -> Line:
        """What is known of one object."""
        return self._pages.setdefault(uid, {}).setdefault(place, Line())

    def pace(self, uid: str, kind: str) -> Pace:
        """How often objects of a kind are written for a service."""
        return self._paces.setdefault(uid, {}).setdefault(kind, Pace())

    def only(self, uid: str, wanted: Set[Place], now: float) -> None:
        """What is no longer wanted of a service is not refused either; it is forgotten once its writes are old."""
        page = self._pages.get(uid, {})
        for place in page.keys() - wanted:
            page[place].settle(None, "", now)
            if page[place].quiet(now):
                del page[place]

    def refused(self, uid: str) -> Mapping[Place, Refused]:
        """Writes that were refused and did not succeed since."""
        return {place: line.refused for place, line in self._page(uid) if line.refused is not None}

    def to_try_again(self, uid: str) -> bool:
        """Whether a write was refused that may succeed without an edit."""
        return any(line.to_try_again() for _, line in self._page(uid))

    def due(self, uid: str, now: float) -> float | None:
        """Seconds until something of the service is to be tried again that no event would tell of."""
        waits = (line.due(now) for _, line in self._page(uid))
        return min((wait for wait in waits if wait is not None), default=None)

    def forget(self, uid: str) -> None:
        """The service is gone."""
        self._pages.pop(uid, None)
        self._paces.pop(uid, None)

    def keep(self, uids: Set[object]) -> None:
        """Services of other uids are gone."""
        for uid in (self._pages.keys() | self._paces.keys()) - uids:
            self.forget(str(uid))

    def __len__(self) -> int:
        return len(self._pages)

    def _page(self, uid: str) -> Iterator[tuple[Place, Line]]:
        yield from self._pages.get(uid, {}).items()
