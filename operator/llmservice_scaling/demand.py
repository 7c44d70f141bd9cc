"""From what is told to replicas: what each signal wants, alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from llmservice_scaling.rules import BESIDE_ANSWERS, CHANCE, IN_FLIGHT, KV_CEILING, LOAD, Capacity, Rules
from llmservice_scaling.signals import Reading, Signals, Validity
from llmservice_scaling.state import Stretches

ARRIVALS = "arrivals"
CATCH_UP = 6.0
"""While replicas start, what waits counts by this less: most of it waits for those that were ordered already. So does
what is held where the replicas there are do it before others would have started."""
TOLERANCE = 0.1
"""Replicas that are off by less than this share stay as they are."""
ROUNDED = 0.05
"""What a mean may be off by, as it is told."""
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


def wanted(
    signals: Signals, rules: Rules, capacity: Capacity, now: float, arriving: Told, came: Stretches
) -> tuple[Wanted, ...]:
    """Every signal. The last is a guard: so many that their KV caches stay below the ceiling. `came` is `arriving` with
    what came before it."""
    return tuple(_signals(signals, rules, capacity, now, arriving, came))


def running(signals: Signals, now: float) -> float:
    """Requests that replicas have, at least; engines know also of those that no gateway sent."""
    return max(_known(part, now) for part in (signals.in_flight, signals.engine_requests))


def expected_answer(arrivals: float, pending: float, answered: float) -> float:
    """Tokens that a request will be answered with: as many as those before it were, which are `arrivals` without the
    `pending` ones, answered with `answered` tokens together. 0 = there were none."""
    done = arrivals - pending
    return answered / done if done > 0 else 0.0


def arriving(signals: Signals, capacity: Capacity, now: float) -> Told:
    """Seconds of a replica's work that come per second, in the last RATE_SECONDS."""
    parts = (signals.prompt_rate, signals.request_rate, signals.answer_rate, signals.mean_requests)
    validity, age = _worst(parts, now)
    coming, going = signals.prompt_rate.value, signals.answer_rate.value
    prompts, answers = capacity.prompt_tokens_per_second, capacity.answer_tokens_per_second
    if not prompts or not answers or coming is None or going is None:
        return Told(None, validity, age)
    return Told(coming / prompts + going / answers, validity, age)


def _signals(
    signals: Signals, rules: Rules, capacity: Capacity, now: float, arriving: Told, came: Stretches
) -> Iterator[Wanted]:
    current, most = signals.replicas, _most_at_work(signals, now)
    prompts, answers = capacity.prompt_tokens_per_second, capacity.answer_tokens_per_second
    requests = _requests(signals, rules, capacity, now, arriving)
    places = rules.in_flight or _places(capacity, requests.value or 0.0)
    yield _want("requests", "requests held and in flight", requests, places, current)
    waiting, drain, load = _told(signals.waiting_tokens, now), rules.drain_seconds(capacity), LOAD if prompts else None
    backlog = f"seconds of work per second, what waits in {drain:.3g} s"
    yield _want("backlog", backlog, _backlog(waiting, prompts, drain, came), load, current, most)
    load = load if answers else None
    yield _want(ARRIVALS, "seconds of work arriving per second", _bursts(arriving, came, rules), load, current, most)
    kv = Told(None, Validity.NOT_MEASURED, None) if signals.kv_used is None else _told(signals.kv_used, now)
    yield _want("kvUsage", "KV caches full", kv, KV_CEILING if signals.kv_used else None, current)


def _places(capacity: Capacity, requests: float) -> float:
    """Those that a replica is wanted to have taken of its own, when so many requests are there together."""
    share = requests / (requests + CHANCE * math.sqrt(requests)) if requests else 0.0
    return max(1.0, capacity.places * max(IN_FLIGHT, share))


def _backlog(waiting: Told, prompts: float | None, drain: float, came: Stretches) -> Told:
    """The work that comes, on the mean, and beside it what waits, in `drain` seconds."""
    if waiting.value is None or not prompts:
        return waiting
    seconds, work = came[-1]
    return waiting._replace(value=work / seconds + waiting.value / (prompts * BESIDE_ANSWERS) / drain)


def _bursts(arriving: Told, came: Stretches, rules: Rules) -> Told:
    """Of every stretch until now, what came in it is to be done when it ends, but for what may wait then. So chance,
    which makes short stretches full, asks for nothing that a short queue makes up for."""
    if arriving.value is None:
        return arriving
    may_wait = rules.first_token_seconds / 2 / LOAD
    return arriving._replace(value=max(work / (seconds + may_wait) for seconds, work in came))


def _known(reading: Reading, now: float) -> float:
    return reading.value if reading.value is not None and reading.validity(now) in USABLE else 0.0


def _most_at_work(signals: Signals, now: float) -> int | None:
    """Replicas that the requests there are, or were of late, can keep at work: a long prompt needs no second one, and
    one client that asks again and again none either, however slow a replica found itself when it was loaded.

    None = not known.
    """
    parts = (signals.held, signals.in_flight, signals.engine_requests, signals.mean_requests)
    if _worst(parts, now)[0] is not Validity.VALID:
        return None
    there = max(_known(signals.held, now) + running(signals, now), signals.mean_requests.value or 0.0)
    return math.ceil(there - ROUNDED)


def _told(reading: Reading, now: float) -> Told:
    return Told(reading.value, *_worst((reading,), now))


def _requests(signals: Signals, rules: Rules, capacity: Capacity, now: float, arriving: Told) -> Told:
    validity, age = _worst((signals.held, signals.in_flight, signals.engine_requests), now)
    held, runs = _known(signals.held, now), running(signals, now)
    value = held + runs
    if validity not in USABLE and value:
        validity = Validity.PARTIAL
    if signals.starting:
        room = max(0, signals.replicas - signals.starting) * capacity.places
        value = min(value, room) + max(0.0, value - room) / CATCH_UP
    elif held and (enough := _enough_for(held, signals, rules, capacity, now, arriving)) is not None:
        value = min(value, max(runs + held / CATCH_UP, enough * capacity.places))
    return Told(value, validity, age)


def _enough_for(
    held: float, signals: Signals, rules: Rules, capacity: Capacity, now: float, arriving: Told
) -> float | None:
    """Replicas that do what is held, prompts and answers, in the time in which what waits is to be done, beside what
    comes. None = not known, or the user says how many requests one is to have."""
    waiting, each = _told(signals.waiting_tokens, now), capacity.answer_tokens
    prompts, answers = capacity.prompt_tokens_per_second, capacity.answer_tokens_per_second
    if rules.in_flight or not prompts or not answers or not each:
        return None
    if waiting.value is None or arriving.value is None or {waiting.validity, arriving.validity} != {Validity.VALID}:
        return None
    work = waiting.value / (prompts * BESIDE_ANSWERS) + held * each / answers
    return arriving.value + work / rules.drain_seconds(capacity)


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
