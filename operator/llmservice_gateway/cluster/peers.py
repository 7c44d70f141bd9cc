"""The other gateways that live (`gateway_life`): how many are there, and what they are asked for. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from llmservice_api import deaths_lease
from llmservice_api.deaths_lease import Deaths
from llmservice_api.demand_lease import ServiceDemand, Told, decode
from llmservice_api.gateway_life import Life, looked_at
from llmservice_api.labels import DEATHS, DEMAND
from llmservice_kube.kinds import Json

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Peer:
    life: Life
    told: Told = field(default_factory=Told)
    deaths: Deaths = field(default_factory=dict)
    garbage: str = ""


class Peers:
    """All gateways by the names of their Leases; `mine` is this one's own. `now` is monotonic seconds."""

    def __init__(self, mine: str) -> None:
        self._mine = mine
        self._peers: dict[str, _Peer] = {}

    def look(self, leases: Iterable[Json], now: float, wall: datetime) -> None:
        """These Leases are there."""
        before, self._peers = self._peers, {}
        for lease in leases:
            name = lease["metadata"]["name"]
            known = before.get(name)
            life = looked_at(lease, known.life if known is not None else None, now, wall)
            if known is not None and known.life is life:
                self._peers[name] = known
                continue
            self._peers[name] = made = _Peer(life, garbage=known.garbage if known else "")
            said = lease["metadata"].get("annotations") or {}
            try:
                made.told, made.deaths = decode(said.get(DEMAND, "{}")), deaths_lease.decode(said.get(DEATHS, "{}"))
                made.garbage = ""
            except ValueError as error:
                made.told, made.deaths = (known.told, known.deaths) if known else (Told(), {})
                if str(error) != made.garbage:
                    logger.warning("what the Lease %s tells can't be read: %s", name, error)
                made.garbage = str(error)

    def live(self, now: float) -> int:
        """Gateways that are there, this one too."""
        return 1 + len(self._others(now))

    def others(self, service: str, now: float) -> ServiceDemand:
        """What the other gateways have of a service, held and in flight."""
        told = [peer.told.services.get(service, ServiceDemand()) for peer in self._others(now).values()]
        return ServiceDemand(held=sum(each.held for each in told), in_flight=sum(each.in_flight for each in told))

    def deaths(self, now: float) -> Mapping[str, Deaths]:
        """What each of them tells of requests with which replicas died."""
        return {name: peer.deaths for name, peer in self._others(now).items()}

    def _others(self, now: float) -> Mapping[str, _Peer]:
        return {name: peer for name, peer in self._peers.items() if name != self._mine and peer.life.lives(now)}
