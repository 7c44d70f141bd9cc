"""The table of services as one key sees it: what it may not use is not there. Pure."""

from __future__ import annotations

from llmservice_api.gateway_keys import EVERY, KeyRecord
from llmservice_gateway.routing import Table, service_in


class Sight:
    """Makes each key's table once for each table."""

    def __init__(self) -> None:
        self._whole = Table()
        self._made: dict[tuple[str, ...], Table] = {}

    def of(self, record: KeyRecord, whole: Table) -> Table:
        """What of `whole` it may use, services with their adapters. So a bare name is unique when it is among these,
        and aliases lead only there."""
        if EVERY in record.services:
            return whole
        if whole is not self._whole:
            self._whole, self._made = whole, {}
        found = self._made.get(record.services)
        if found is None:
            backends = {name: backend for name, backend in whole.backends.items() if record.may_use(name)}
            aliases = {alias: name for alias, name in whole.aliases.items() if record.may_use(service_in(name))}
            found = self._made[record.services] = Table(backends, aliases)
        return found
