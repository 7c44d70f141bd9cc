"""One service's waiting room: who waits, and who has which place at its replicas. It decides nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from llmservice_gateway.fair import Client, OwnersQueue
from llmservice_gateway.naming import Asked
from llmservice_gateway.places import Size
from llmservice_gateway.planned import Given
from llmservice_gateway.rates import Mean, Rate
from llmservice_gateway.routing import Backend, Replica
from llmservice_gateway.sizes import Learned


@dataclass(eq=False, slots=True)
class Ticket:
    """One request that wants a place until `deadline` (the loop's time). `beat` is awaited every `beat_seconds`."""

    service: str
    who: Callable[[], Client]
    asked: Asked
    deadline: float
    beat_seconds: float
    beat: Callable[[], Awaitable[None]]
    batch: bool = False
    """It goes behind all that are not."""
    avoid: set[str] = field(default_factory=set)
    """Replicas that had it and failed, or refused it."""
    since: float = 0.0
    """When it began to wait..."""
    client: Client = ("", "")
    """...and in whose turn."""
    place: asyncio.Future[Place] | None = None

    @property
    def adapter(self) -> str:
        """The one of the service's that it is for; empty = none."""
        return self.asked.adapter


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """At a replica, for one request."""

    backend: Backend
    replica: Replica
    given: Given
    batch: bool = False
    """A replica lets it pause for others, which find its room free."""


NOTHING = Size()


class Room:
    """What is known of one service."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.live: OwnersQueue[Ticket] = OwnersQueue()
        self.batch: OwnersQueue[Ticket] = OwnersQueue()
        """Has a turn when nothing else waits."""
        self.loads: dict[str, Size] = {}
        self.requests: dict[str, int] = {}
        self.running = 0
        """All of these."""
        self.batch_loads: dict[str, Size] = {}
        """Of these, batch work..."""
        self.batch_requests: dict[str, int] = {}
        """...and its requests."""
        self.unbegun: set[Place] = set()
        """Of streams that have not begun."""
        self.learned = Learned()
        self.arrivals = Rate()
        self.arrived_tokens = Rate()
        self.answers = Rate()
        self.mean = Mean()
        self.totals: Counter[str] = Counter()
        """What only grows, by the names that Demand has for it."""

    @property
    def empty(self) -> bool:
        return not self.busy

    @property
    def busy(self) -> int:
        """Requests that wait or have a place."""
        return self.live.length + self.batch.length + self.running

    @property
    def waiting(self) -> int:
        """Requests that have no place."""
        return self.live.length + self.batch.length

    @property
    def tickets(self) -> list[Ticket]:
        """Of all that wait."""
        return [*self.live, *self.batch]

    def queue(self, ticket: Ticket) -> OwnersQueue[Ticket]:
        """Where it waits."""
        return self.batch if ticket.batch else self.live

    def before(self, ticket: Ticket) -> int:
        """Requests that wait, and that it goes behind."""
        return self.waiting if ticket.batch else self.live.length

    def counted(self, now: float) -> None:
        """A request came or went."""
        self.mean.set(self.busy, now)

    def take(self, place: Place, ticket: Ticket) -> None:
        """It has this place."""
        name = place.replica.name
        size = place.given.size
        self.loads[name] = self.loads[name] + size if name in self.loads else size
        self.requests[name] = self.requests.get(name, 0) + 1
        self.running += 1
        if place.batch:
            self.batch_loads[name] = self.batch_loads.get(name, NOTHING) + size
            self.batch_requests[name] = self.batch_requests.get(name, 0) + 1
        if ticket.asked.streams:
            self.unbegun.add(place)

    def leave(self, place: Place) -> None:
        """It has it no more."""
        name = place.replica.name
        self.running -= 1
        self.unbegun.discard(place)
        _less(self.requests, self.loads, name, place.given.size)
        if place.batch:
            _less(self.batch_requests, self.batch_loads, name, place.given.size)


def _less(requests: dict[str, int], loads: dict[str, Size], name: str, size: Size) -> None:
    if requests[name] == 1:
        del requests[name], loads[name]
        return
    requests[name] -= 1
    loads[name] -= size
