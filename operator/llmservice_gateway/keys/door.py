"""Where requests show their key: who they are of, and whether they may come in now."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from multidict import MultiMapping

from llmservice_gateway.keys.errors import key_required, key_unknown, keys_unread, over_limit
from llmservice_gateway.keys.limits import Meter
from llmservice_gateway.keys.ring import Owner, Ring
from llmservice_gateway.keys.sight import Sight
from llmservice_gateway.keys.usage import Usage
from llmservice_gateway.routing import Table


class Door:
    """Shut until keys were read once (`publish`); afterwards those that were read last count.

    `gateways` says how many share each key's limits. `clock` gives monotonic seconds, `wall` the time of day.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.gateways: Callable[[], int] = lambda: 1
        self.usage = Usage()
        self._clock, self._wall = clock, wall
        self._ring: Ring | None = None
        self._meters: dict[str, Meter] = {}
        self._sight = Sight()

    @property
    def ready(self) -> bool:
        """Whether keys were read."""
        return self._ring is not None

    def publish(self, ring: Ring) -> None:
        """These keys count from now on. What was counted of a key stays while it has its name."""
        self._ring = ring
        self._meters = {name: self._meters.get(name) or Meter() for name in ring.records}

    def enter(self, headers: MultiMapping[str]) -> Owner:
        """Whose key a request shows. ApiError 401; 503 as long as no keys were read."""
        if self._ring is None:
            raise keys_unread()
        shown = shown_key(headers)
        if not shown:
            raise key_required()
        owner = self._ring.owner(shown, self._wall())
        if owner is None:
            raise key_unknown()
        return owner

    def ask(self, owner: Owner) -> None:
        """One request more. ApiError 429 when that is over a limit of the key."""
        meter = self._meters.get(owner.name)
        refused = meter.ask(owner.record, max(1, self.gateways()), self._clock()) if meter else None
        if refused is not None:
            raise over_limit(owner.name, refused)

    def over(self, owner: Owner, prompt_tokens: int, answer_tokens: int, spent: int) -> None:
        """A request has ended. `spent` counts for its limit: also what is only guessed, where an answer was cut off."""
        if meter := self._meters.get(owner.name):
            meter.took(spent, self._clock())
        self.usage.add(self._wall().date(), owner.name, prompt_tokens, answer_tokens)

    def sees(self, owner: Owner, whole: Table) -> Table:
        """The services that it may use."""
        return self._sight.of(owner.record, whole)


def shown_key(headers: MultiMapping[str]) -> str:
    """The key that a request shows: OpenAI's clients send it as a bearer token, others in a header of its own."""
    scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip()
