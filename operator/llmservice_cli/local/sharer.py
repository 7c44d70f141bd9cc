"""What is known of all services of an instance, put to the policy that shares the machine among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from llmservice_cli.local.giving_way import Resident, Turns, Waiting, residency, take_turns
from llmservice_cli.local.holds import Memory, Need
from llmservice_cli.local.status import PATIENCE
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.demand import Demand

SURE_SECONDS = 2.0
"""Whoever waits in vain is told after so long: what other programs have goes up and down."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """One service, as far as it matters to others."""

    service: str
    need: Need
    """What a replica is planned to take."""
    keeps: int | None
    """Replicas that stay whatever others need; None = all of them."""
    replicas: Sequence[ReplicaFacts]
    demand: Demand
    in_flight: Callable[[str], int]
    """Requests that a replica answers now."""
    waits: bool = False
    """None of its newest replicas found room."""
    changing: bool = False
    """A changed version starts beside what serves."""

    @property
    def asked(self) -> bool:
        """Somebody wants it to run: a request, or whoever said how many there are."""
        return self.keeps != 0 or self.demand.held > 0

    @property
    def at_rest(self) -> bool:
        """It found no room, and nobody wants it now."""
        return self.waits and not self.asked and not self.demand.in_flight


class Sharer:
    """Remembers who was used when, who is ready since when, and who waits since when."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[int, float]] = {}
        """Requests that came so far, and when there last was work."""
        self._ready: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._hopeless: dict[str, float] = {}
        """Who waits in vain, and since when."""

    def saw(self, services: Sequence[Sharing], now: float) -> None:
        """As they are now; to be called a few times in a second. `now` is monotonic, in seconds."""
        used: dict[str, tuple[int, float]] = {}
        for one in services:
            came, at = self._used.get(one.service, (one.demand.arrivals, now))
            works = one.demand.arrivals != came or one.demand.in_flight or one.demand.held
            used[one.service] = (one.demand.arrivals, now if works else at)
        ready = [facts.name for one in services for facts in one.replicas if facts.ready]
        there = {facts.name for one in services for facts in one.replicas}
        waiting = [one.service for one in services if one.waits and one.asked]
        self._used = used
        self._ready = {name: at for name, at in self._ready.items() if name in there}
        self._ready |= {name: now for name in ready if name not in self._ready}
        self._since = {service: self._since.get(service, now) for service in waiting}

    def turns(self, services: Sequence[Sharing], memory: Memory, now: float) -> Turns:
        """Who gives way to whom. `memory` was read a moment ago."""
        self.saw(services, now)
        there = {facts.name for one in services for facts in one.replicas}
        ending = {hold.replica for hold in memory.holds if hold.instance == memory.instance} - there
        waiting = [
            Waiting(
                one.service,
                one.need,
                min(self._since[one.service], now - one.demand.oldest_seconds),
                stays=one.keeps != 0,
            )
            for one in services
            if one.service in self._since
        ]
        residents = [resident for one in services for resident in self._residents(one, now)]
        keeps = {one.service: len(one.replicas) if one.keeps is None else one.keeps for one in services}
        turns = take_turns(waiting, residents, keeps, memory.without(ending), now)
        self._hopeless = {service: self._hopeless.get(service, now) for service in turns.hopeless}
        sure = {service for service, since in self._hopeless.items() if now - since >= SURE_SECONDS}
        return replace(turns, hopeless=frozenset(sure))

    def _residents(self, one: Sharing, now: float) -> Iterator[Resident]:
        used = self._used[one.service][1]
        for facts in one.replicas:
            if not facts.held:
                busy = bool(one.in_flight(facts.name) or facts.running or facts.waiting)
                yield Resident(facts.name, one.service, busy, self._stays_until(one, facts), used)

    def _stays_until(self, one: Sharing, facts: ReplicaFacts) -> float:
        """One that has never been ready is still on its way, unless it fails again and again."""
        ready = self._ready.get(facts.name)
        if one.changing or (ready is None and facts.restarts < PATIENCE and not facts.gave_up):
            return math.inf
        if ready is None:
            return -math.inf
        return ready + residency(facts.load.milliseconds / 1000 if facts.load is not None else None)
