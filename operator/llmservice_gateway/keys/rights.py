"""What the key that a request shows lets it do. Where no keys are asked for, everybody may do everything."""

from __future__ import annotations

from aiohttp import web

from llmservice_gateway.clients import Asking
from llmservice_gateway.journal import ENTRY, Entry
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Owner
from llmservice_gateway.launching.errors import key_may_not
from llmservice_gateway.routing import Table

OWNER = web.RequestKey("owner", Owner)


class Rights:
    """Of requests that came in by `door`; None = there is none."""

    def __init__(self, door: Door | None) -> None:
        self._door = door

    def enter(self, request: Asking) -> None:
        """ApiError 401 without a key that counts; 503 as long as none were read."""
        if self._door is not None:
            owner = request[OWNER] = self._door.enter(request.headers)
            request[ENTRY].key = owner.name

    def sees(self, request: Asking, table: Table) -> Table:
        """The services that exist for this client."""
        return table if self._door is None else self._door.sees(request[OWNER], table)

    def launch(self, request: Asking, service: str) -> None:
        """ApiError 403 where its key has no right to launch or remove this service."""
        if self._door is not None:
            owner = request[OWNER]
            if not (owner.record.launch and owner.record.may_use(service)):
                raise key_may_not(owner.name, service)

    def ask(self, request: Asking) -> None:
        """One request more. ApiError 429 where its key has asked enough."""
        if self._door is not None:
            self._door.ask(request[OWNER])

    def over(self, request: Asking, entry: Entry) -> None:
        """What it took, which its key's limits and day have to know."""
        if self._door is not None and entry.replica and (owner := request.get(OWNER)) is not None:
            self._door.over(owner, entry.prompt_tokens, entry.answer_tokens, entry.spent)
