"""What the page shows that the data path does not know: each place, machine or cluster, tells it in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]
LOCAL, CLUSTER = "local", "cluster"


@dataclass(frozen=True, slots=True)
class Told:
    """Something about a service, or a sentence why there is nothing."""

    body: Any = None
    note: str = ""


class Facts(Protocol):
    """Services by full name. What is asynchronous may ask others, and gives up by itself after a few seconds."""

    place: str
    """LOCAL or CLUSTER."""

    def object(self, service: str) -> Json | None:
        """The LLMService with its status, as the API has it."""
        ...

    def wanted(self, service: str) -> int | None:
        """Replicas that there are to be; None = nobody says."""
        ...

    def elsewhere(self, service: str) -> tuple[int, int]:
        """Requests (held, in flight) that other gateways have."""
        ...

    async def replicas(self, service: str) -> Sequence[Json]:
        """Each replica: name, state, phase, percent, etaSeconds, running, waiting, restarts, gpus, failure, note."""
        ...

    async def events(self, service: str) -> Told:
        """The newest Events first: at, type, reason, message, count."""
        ...

    async def explain(self, service: str) -> Told:
        """Why there are as many replicas as there are, as `llmservice explain` has it."""
        ...


class NoFacts:
    """Nothing is known but what the data path knows."""

    place = LOCAL

    def object(self, service: str) -> Json | None:
        """Nothing."""
        return None

    def wanted(self, service: str) -> int | None:
        """Nobody says."""
        return None

    def elsewhere(self, service: str) -> tuple[int, int]:
        """None."""
        return 0, 0

    async def replicas(self, service: str) -> Sequence[Json]:
        """None."""
        return ()

    async def events(self, service: str) -> Told:
        """None."""
        return Told([])

    async def explain(self, service: str) -> Told:
        """Nothing."""
        return Told()
