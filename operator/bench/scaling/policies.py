"""What a policy of scaling is to the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sample:
    """What could be read at a time. Requests at replicas that take no more are not counted."""

    at: float
    held: int
    """Requests that no replica was there for."""
    in_flight: int
    """Requests at replicas, and those held."""
    waiting: int
    """Requests not begun, and those held."""
    waiting_tokens: int
    """Prompt tokens of these."""
    kv: float
    """Mean share of the KV caches that is used."""
    busy: float
    """Share of the replicas that have a request."""
    ready: int
    current: int
    """Ready and starting."""
    prompt_rate: float
    """Prompt tokens per second that came in the last RATE_SECONDS of ours; no rival reads it."""
    request_rate: float
    """Requests per second that came in the last RATE_SECONDS."""
    mean_prompt: float
    """Tokens, of all that are finished."""
    mean_answer: float


Past = Sequence[Sample]
"""One a second, the last one some seconds old."""


class Policy(Protocol):
    """Asked every `period` seconds."""

    @property
    def period(self) -> float: ...

    def __call__(self, past: Past, current: int, now: float) -> int:
        """How many replicas there are to be; the simulator clamps it."""
        ...


class Static:
    """Always as many."""

    period = 15.0

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def __call__(self, past: Past, current: int, now: float) -> int:
        return self._replicas
