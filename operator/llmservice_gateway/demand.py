"""What the gateway knows of the work that a service is asked for: what scaling decides on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """One service at one moment, at one gateway. All are 0 when nothing is asked."""

    service: str
    """Full name."""
    held: int = 0
    """Requests that wait at the gateway: for a replica to be ready, or for room at one."""
    in_flight: int = 0
    """Requests that replicas have."""
    waiting_tokens: int = 0
    """Of the prompts of held requests and of streams that have not begun, as far as their bytes tell."""
    held_tokens: int = 0
    """Of these, those of held requests."""
    in_flight_tokens: int = 0
    """What the requests in flight will hold in the KV cache, prompts and answers."""
    arrivals_per_second: float = 0.0
    """Requests, over about the last half minute."""
    tokens_per_second: float = 0.0
    """Of the prompts of these."""
    mean_requests: float = 0.0
    """Held and in flight, on the mean of the last seconds: short ones are seldom there when somebody looks."""
    oldest_seconds: float = 0.0
    """How long the request that waits longest has waited."""
    arrivals: int = 0
    """Requests that came; only grows, as what follows."""
    arrived_tokens: int = 0
    """Of the prompts of these."""
    answered_tokens: int = 0
    """That replicas generated, as far as they counted."""
