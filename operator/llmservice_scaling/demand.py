"""From what is told to replicas: what each signal wants, alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from llmservice_scaling.rules import BESIDE_ANSWERS, IN_FLIGHT, KV_CEILING, LOAD, Capacity, Rules
from llmservice_scaling.signals import RATE_SECONDS, Reading, Signals, Validity

CATCH_UP = 3.0
"""While replicas start, what waits counts by this less: most of it waits for those that were ordered already."""
TOLERANCE = 0.1
"""Replicas that are off by less than this share stay as they are."""
USABLE = (Validity.VALID, Validity.PARTIAL)
_WORST = (Validity.MISSING, Validity.NOT_A_NUMBER, Validity.STALE, Validity.PARTIAL, Validity.VALID)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One signal, and what it alone would have."""

    signal: str
    value: float | None
    unit: str
    age: float | None
    """Seconds, of its oldest part."""
    validity: Validity
    target: float | None
    """What one replica is to have of it."""
    raw: float | None
    """value / target."""
    replicas: int | None
    """After the tolerance; None = it says nothing."""
    capped: bool = False
    """It would have more, and each would have nothing to do: a request is computed by one replica."""

    @property
    def holds(self) -> bool:
        """Nothing may go while this is not known."""
        return self.validity not in (Validity.VALID, Validity.NOT_MEASURED)


class Told(NamedTuple):
    """A value of one signal, from one reading or several."""

    value: float | None
    validity: Validity
    age: float | None


def wanted(signals: Signals, rules: Rules, capacity: Capacity, now: float) -> tuple[Wanted, ...]:
    """Every signal. The last is a guard: so many that their KV caches stay below the ceiling."""
    return tuple(_signals(signals, rules, capacity, now))


def running(signals: Signals, now: float) -> float:
    """Requests that replicas have, at least; engines know also of those that no gateway sent."""
    return max(_known(part, now) for part in (signals.in_flight, signals.engine_requests))


def expected_answers(rate: float, arrivals: float, pending: float, answered: float) -> float:
    """Tokens per second that what comes, `rate` requests a second, will be answered with: as many each as those before
    it were, which are `arrivals` without the `pending` ones, answered with `answered` tokens together."""
    done = arrivals - pending
    return rate * answered / done if done > 0 else 0.0


def _signals(signals: Signals, rules: Rules, capacity: Capacity, now: float) -> Iterator[Wanted]:
    current = signals.replicas
    prompts, answers = capacity.prompt_tokens_per_second, capacity.answer_tokens_per_second
    places = rules.in_flight or max(1.0, capacity.places * IN_FLIGHT)
    behind = CATCH_UP if signals.starting else 1.0
    most = _most_at_work(signals, now)
    backlog = prompts * rules.first_token_seconds * BESIDE_ANSWERS * behind if prompts else None
    load = LOAD if prompts and answers else None
    yield _want("requests", "requests held and in flight", _requests(signals, capacity, now), places, current)
    yield _want("backlog", "prompt tokens waiting", _told(signals.waiting_tokens, now), backlog, current, most)
    arriving = _arriving(signals, prompts, answers, now)
    yield _want("arrivals", "seconds of work arriving per second", arriving, load, current, most)
    kv = Told(None, Validity.NOT_MEASURED, None) if signals.kv_used is None else _told(signals.kv_used, now)
    yield _want("kvUsage", "KV caches full", kv, KV_CEILING if signals.kv_used else None, current)


def _known(reading: Reading, now: float) -> float:
    return reading.value if reading.value is not None and reading.validity(now) in USABLE else 0.0


def _most_at_work(signals: Signals, now: float) -> int | None:
    """Replicas that the requests there are, or were of late, can keep at work: a long prompt needs no second one.

    None = not known.
    """
    validity, _ = _worst((signals.held, signals.in_flight, signals.engine_requests, signals.request_rate), now)
    if validity is not Validity.VALID:
        return None
    came = (signals.request_rate.value or 0.0) * RATE_SECONDS
    return math.ceil(max(_known(signals.held, now) + running(signals, now), came) - 1e-9)


def _told(reading: Reading, now: float) -> Told:
    return Told(reading.value, *_worst((reading,), now))


def _requests(signals: Signals, capacity: Capacity, now: float) -> Told:
    validity, age = _worst((signals.held, signals.in_flight, signals.engine_requests), now)
    value = _known(signals.held, now) + running(signals, now)
    if validity not in USABLE and value:
        validity = Validity.PARTIAL
    if signals.starting:
        room = (signals.replicas - signals.starting) * capacity.places
        value = min(value, room) + max(0.0, value - room) / CATCH_UP
    return Told(value, validity, age)


def _arriving(signals: Signals, prompts: float | None, answers: float | None, now: float) -> Told:
    validity, age = _worst((signals.prompt_rate, signals.request_rate, signals.answer_rate), now)
    coming, going = signals.prompt_rate.value, signals.answer_rate.value
    if not prompts or not answers or coming is None or going is None:
        return Told(None, validity, age)
    return Told(coming / prompts + going / answers, validity, age)


def _worst(parts: tuple[Reading, ...], now: float) -> tuple[Validity, float | None]:
    ages = [part.age(now) for part in parts if part.value is not None]
    return min((part.validity(now) for part in parts), key=_WORST.index), max(ages, default=None)


def _want(signal: str, unit: str, told: Told, target: float | None, current: int, most: int | None = None) -> Wanted:
    value, validity, age = told
    if target is None:
        return Wanted(signal, value, unit, age, Validity.NOT_MEASURED, None, None, None)
    if value is None or validity not in USABLE:
        return Wanted(signal, value, unit, age, validity, target, None, None)
    raw = value / target
    if not math.isfinite(raw):  # a finite value against a tiny target
        return Wanted(signal, value, unit, age, Validity.NOT_A_NUMBER, target, None, None)
    replicas = _tolerant(raw, current)
    capped = most is not None and most < replicas
    return Wanted(signal, value, unit, age, validity, target, raw, most if capped else replicas, capped)


def _tolerant(raw: float, current: int) -> int:
    if current and abs(raw / current - 1.0) <= TOLERANCE:
        return current
    return math.ceil(raw)
