"""What is told of a service, each value with the time of its telling, and whether it can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

STALE_SECONDS = 15.0
"""Three readings of 5 s: what is older says nothing of now, unless whoever tells it reads more rarely."""
RATE_SECONDS = 5.0
"""What rates of arrival are taken over: bursts last seconds, and decisions come every few."""
AHEAD_SECONDS = 1.0
"""How far a telling may lie in the future before the clock is not believed."""


class Validity(StrEnum):
    """What a reading is good for."""

    VALID = "Valid"
    PARTIAL = "Partial"
    """Not all were heard: a sum is at least this. May raise, never lower."""
    MISSING = "Missing"
    STALE = "Stale"
    NOT_A_NUMBER = "NotANumber"
    """NaN, infinite or negative."""
    NOT_MEASURED = "NotMeasured"
    """There is nothing to measure it against, as of a model that never ran: neither raises nor holds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A sum over everybody who was asked. `at`: seconds on the clock that decides (`now`)."""

    value: float | None
    at: float
    complete: bool = True
    """Everybody who was asked has answered."""
    lasts: float = STALE_SECONDS
    """Seconds that it says something of now: three readings of whoever tells it."""

    def age(self, now: float) -> float:
        """Seconds; negative when told by a clock that was set back since."""
        return now - self.at

    def validity(self, now: float) -> Validity:
        """Whether `value` can be used, and for what."""
        if self.value is None:
            return Validity.MISSING
        if not math.isfinite(self.value) or self.value < 0:
            return Validity.NOT_A_NUMBER
        if not -AHEAD_SECONDS <= self.age(now) <= self.lasts:
            return Validity.STALE
        return Validity.VALID if self.complete else Validity.PARTIAL


UNHEARD = Reading(None, 0.0)


@dataclass(frozen=True, slots=True)
class Signals:
    """Of one service, now. What nobody told is UNHEARD, never 0."""

    replicas: int
    """Asked for now, as /scale has it."""
    starting: int = 0
    """Of these not ready yet: their pod starts or waits, or its node is being added. Not those that failed for good."""
    held: Reading = UNHEARD
    """Requests that wait at gateways."""
    in_flight: Reading = UNHEARD
    """Requests that gateways gave to replicas and that have not ended."""
    engine_requests: Reading = UNHEARD
    """Requests that run or wait in engines, whoever sent them."""
    waiting_tokens: Reading = UNHEARD
    """Prompt tokens of requests that have no first token yet, held ones too."""
    prompt_rate: Reading = UNHEARD
    """Prompt tokens per second of the requests that came in the last RATE_SECONDS; 0 only when none came."""
    request_rate: Reading = UNHEARD
    """These requests per second."""
    answer_rate: Reading = UNHEARD
    """Tokens per second that these requests are expected to be answered with."""
    mean_requests: Reading = UNHEARD
    """Requests held and in flight, on the mean of the last seconds: short ones are seldom there when somebody looks."""
    kv_used: Reading | None = UNHEARD
    """KV cache that running requests use, in replicas: the sum of every replica's share (0 to 1). None = nobody here
    measures it."""
