"""The last hour of each service, in memory that is bounded whatever is asked: one row every few seconds. Pure.

What a row tells of requests is about those that ended since the row before. Times are Unix seconds.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import randrange
from typing import Any

STEP_SECONDS = 5
SAMPLES = 3600 // STEP_SECONDS
MOST_SERVICES = 200
"""Of more, those are kept that were asked for last."""
MOST_DECISIONS = 32
LONGEST_SENTENCE = 200
"""Characters of a decision's sentence."""
MOST_TIMES = 256
"""Requests of one step whose times are kept, for percentiles: of more a part that is as good."""
COLUMNS = (
    "held", "inFlight", "running", "waiting", "tokensPerSecond", "ttft50", "ttft95", "gap50", "gap95", "kvUsed",
    "ready", "wanted", "requests", "failed",
)  # fmt: skip
"""What a row has beside its time. Times in seconds, kvUsed from 0 to 1; NaN = not known, or there was none."""
SERVICE_BYTES = SAMPLES * 4 * (len(COLUMNS) + 1) + MOST_DECISIONS * (4 * LONGEST_SENTENCE + 1024) + 2 * MOST_TIMES * 8
MOST_BYTES = MOST_SERVICES * SERVICE_BYTES + (1 << 20)
"""All of it takes no more, and a tenth where few services scale."""

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Moved:
    """The number of wanted replicas changed."""

    at: int
    before: int
    replicas: int
    reason: str
    sentence: str


class Times:
    """Seconds that requests took since the last look: all of them, or a sample in which each had the same chance."""

    def __init__(self) -> None:
        self._kept = array("f")
        self._seen = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self._seen += 1
        if len(self._kept) < MOST_TIMES:
            self._kept.append(seconds)
        elif (place := randrange(self._seen)) < MOST_TIMES:
            self._kept[place] = seconds

    def taken(self) -> tuple[float, float]:
        """The median and what 95 % were below; NaN when there was none. Begins anew."""
        kept, self._kept, self._seen = sorted(self._kept), array("f"), 0
        return percentile(kept, 0.5), percentile(kept, 0.95)


def percentile(ordered: Sequence[float], share: float) -> float:
    """By nearest rank; NaN of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class _Service:
    def __init__(self) -> None:
        self.at = array("I", bytes(4 * SAMPLES))
        self.columns = {name: array("f", bytes(4 * SAMPLES)) for name in COLUMNS}
        self.next = 0
        self.count = 0
        self.moves: deque[Moved] = deque(maxlen=MOST_DECISIONS)
        self.used = 0
        """When it was last asked for anything."""

    def add(self, at: int, row: Row) -> None:
        self.at[self.next] = at
        for name, column in self.columns.items():
            column[self.next] = row.get(name, math.nan)
        self.next = (self.next + 1) % SAMPLES
        self.count = min(SAMPLES, self.count + 1)

    def places(self, since: int) -> list[int]:
        first = (self.next - self.count) % SAMPLES
        places = [(first + n) % SAMPLES for n in range(self.count)]
        return [place for place in places if self.at[place] > since]


class History:
    """Rows of all services by full name."""

    def __init__(self) -> None:
        self._services: dict[str, _Service] = {}

    def add(self, service: str, at: int, row: Row) -> None:
        """One row more; the oldest goes where there are too many, and so does a service."""
        found = self._services.get(service)
        if found is None:
            if len(self._services) >= MOST_SERVICES:
                del self._services[min(self._services, key=lambda name: self._services[name].used)]
            found = self._services[service] = _Service()
            found.used = at
        if row.get("requests") or row.get("held") or row.get("inFlight"):
            found.used = at
        found.add(at, row)

    def moved(self, service: str, move: Moved) -> None:
        """Another number of replicas is wanted. Of a service without rows nothing is kept."""
        if found := self._services.get(service):
            cut = move.sentence[:LONGEST_SENTENCE]
            found.moves.append(Moved(move.at, move.before, move.replicas, move.reason[:64], cut))

    def keep(self, services: Iterable[str]) -> None:
        """Forget all others."""
        there = set(services)
        for name in [name for name in self._services if name not in there]:
            del self._services[name]

    def last(self, service: str) -> dict[str, float | None]:
        """The newest row; empty when there is none."""
        found = self._services.get(service)
        if found is None or not found.count:
            return {}
        place = (found.next - 1) % SAMPLES
        return {name: _told(column[place]) for name, column in found.columns.items()}

    def told(self, service: str, since: int = 0) -> dict[str, Any]:
        """Rows newer than `since`, as columns for JSON, and the decisions that changed the number of replicas."""
        found = self._services.get(service) or _Service()
        places = found.places(since)
        columns: dict[str, list[Any]] = {"at": [found.at[place] for place in places]}
        for name, column in found.columns.items():
            columns[name] = [_told(column[place]) for place in places]
        return {"columns": columns, "decisions": [asdict(move) for move in found.moves if move.at > since]}


def _told(value: float) -> float | None:
    """What JSON can say of it, in no more digits than it has."""
    return None if math.isnan(value) or math.isinf(value) else float(f"{value:.6g}")
