"""What gateways that live (`gateway_life`) tell of demand, by their Leases. Pure; `now` is monotonic seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from llmservice_api.demand_lease import ServiceDemand, Told, decode
from llmservice_api.gateway_life import Life, looked_at
from llmservice_api.labels import DEMAND
from llmservice_scaling.demand import expected_answer
from llmservice_scaling.signals import RATE_SECONDS, UNHEARD, Reading

Json = dict[str, Any]
NOBODY = ServiceDemand()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of one service, over all gateways that live."""

    held: Reading = UNHEARD
    in_flight: Reading = UNHEARD
    waiting_tokens: Reading = UNHEARD
    in_flight_tokens: Reading = UNHEARD
    prompt_rate: Reading = UNHEARD
    request_rate: Reading = UNHEARD
    answer_rate: Reading = UNHEARD
    mean_requests: Reading = UNHEARD
    answer_tokens: float = 0.0
    """Of one answer, the mean; 0 = there was none yet."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    told: Told
    counted: Mapping[str, ServiceDemand]
    """What was told last of each service, be it before: one that nobody asks for is no longer named."""


@dataclass(slots=True)
class _Gateway:
    life: Life
    wrong: str = ""
    """Why what it told last can't be read."""
    whole: bool = False
    """It is known since it began, so what it counts began at 0."""
    samples: deque[_Sample] = field(default_factory=deque)
    """What it told, the newest last, as far back as rates are taken over."""

    def service(self, name: str) -> ServiceDemand | None:
        """None = it does not tell."""
        if self.wrong or not self.samples:
            return None
        told = self.samples[-1].told
        return told.services.get(name, None if told.omitted else NOBODY)

    def rate(self, name: str, count: Callable[[ServiceDemand], int]) -> float:
        """Per second, of what only grows."""
        last, first = self.samples[-1], self.samples[0]
        newest = last.counted.get(name, NOBODY)
        oldest = first.counted.get(name, NOBODY if self.whole else newest)
        return max(0, count(newest) - count(oldest)) / max(last.at - first.at, RATE_SECONDS)

    def counted(self, name: str) -> ServiceDemand:
        """What it told last of a service, be it before."""
        return self.samples[-1].counted.get(name, NOBODY)

    def add(self, told: Told, now: float) -> None:
        """The newest of what it told."""
        before = self.samples[-1].counted if self.samples else {}
        self.samples.append(_Sample(now, told, {**before, **told.services}))
        while len(self.samples) > 2 and self.samples[1].at <= now - RATE_SECONDS:
            self.samples.popleft()


class Gateways:
    """All Leases of an installation's gateways; `saw` and `gone` keep them."""

    def __init__(self) -> None:
        self._known: dict[str, _Gateway] = {}

    def saw(self, lease: Json, now: float, wall: datetime) -> list[str]:
        """A Lease as it is; the services for which requests are held there, when it told something new."""
        name = lease["metadata"]["name"]
        known = self._known.get(name)
        life = looked_at(lease, known.life if known is not None else None, now, wall)
        if known is not None and known.life is life:
            return []
        if known is None or known.life.began != life.began:
            known = self._known[name] = _Gateway(life)
            if life.age is not None and abs(life.age) <= life.seconds:  # it has told nothing before
                known.whole = True
                known.add(Told(), now - RATE_SECONDS)
        known.life = life
        try:
            told = decode(str((lease["metadata"].get("annotations") or {}).get(DEMAND, "")))
        except ValueError as error:
            known.wrong = str(error) or "it says nothing"
            return []
        known.wrong = ""
        known.add(told, now)
        return [service for service, demand in told.services.items() if demand.held]

    def gone(self, name: str) -> None:
        """There is no such Lease any more."""
        self._known.pop(name, None)

    def only(self, names: Collection[str]) -> None:
        """A list had these, and no others."""
        for name in self._known.keys() - set(names):
            del self._known[name]

    def live(self, now: float) -> list[str]:
        """Names of those that live."""
        return [name for name, known in self._known.items() if known.life.lives(now)]

    def complaint(self, now: float) -> str:
        """Why not everything is told; empty when it is."""
        if not (live := self.live(now)):
            return "no gateway renews its Lease"
        wrong = next((name for name in live if self._known[name].wrong), None)
        return f"what the gateway {wrong} tells can't be read: {self._known[wrong].wrong}" if wrong else ""

    def asked(self, service: str, now: float) -> Asked:
        """Of a service by full name."""
        live = [known for known in self._known.values() if known.life.lives(now)]
        told = [(known, demand) for known in live if (demand := known.service(service)) is not None]
        if not told:
            return Asked()
        at = min(known.life.heard for known, _ in told)
        complete = len(told) == len(live)

        def reading(values: Iterator[float]) -> Reading:
            return Reading(sum(values), at, complete)

        came = sum(known.rate(service, lambda one: one.arrivals) for known, _ in told)
        tokens = sum(known.rate(service, lambda one: one.arrived_tokens) for known, _ in told)
        counted = [known.counted(service) for known, _ in told]
        answer = expected_answer(
            sum(one.arrivals for one in counted),
            sum(one.held + one.in_flight for one in counted),
            sum(one.answered_tokens for one in counted),
        )
        return Asked(
            held=reading(float(demand.held) for _, demand in told),
            in_flight=reading(float(demand.in_flight) for _, demand in told),
            waiting_tokens=reading(float(demand.waiting_tokens) for _, demand in told),
            in_flight_tokens=reading(float(demand.in_flight_tokens) for _, demand in told),
            prompt_rate=Reading(max(came, tokens), at, complete),
            request_rate=Reading(came, at, complete),
            answer_rate=Reading(came * answer, at, complete),
            mean_requests=reading(demand.mean_requests for _, demand in told),
            answer_tokens=answer,
        )
