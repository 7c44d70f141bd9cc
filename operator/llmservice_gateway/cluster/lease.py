"""This gateway's Lease: at once when a service begins to be held, soon when anything changed, else now and then."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from llmservice_api import deaths_lease
from llmservice_api.demand_lease import ServiceDemand, encode, lease
from llmservice_gateway.demand import Demand
from llmservice_gateway.rooms import Rooms
from llmservice_gateway.suspects import Suspects
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LEASE

MANAGER = "llmservice-gateway"
APART_SECONDS = 0.1
"""Between two writes, at least."""
CHANGED_SECONDS = 1.0
"""From a change to the write that tells of it."""
RENEW_SECONDS = 5.0
QUIET_SECONDS = 60.0
"""A service that nobody asks for is told of for so long after its counters last changed."""
WRITE_SECONDS = 5.0
"""For one write; then another one is tried, with what is so by then."""

logger = logging.getLogger(__name__)


class Account:
    """What is told of which service: those with work, and those that had some lately. Pure."""

    def __init__(self, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._quiet_seconds = quiet_seconds
        self._changed: dict[str, tuple[ServiceDemand, float]] = {}

    def of(self, demands: Iterator[Demand], now: float) -> dict[str, ServiceDemand]:
        """By full name; `demands` are of all services that had a request."""
        found: dict[str, ServiceDemand] = {}
        kept: dict[str, tuple[ServiceDemand, float]] = {}
        for demand in demands:
            told = _told(demand)
            counters = told.timeless
            known, at = self._changed.get(demand.service, (ServiceDemand(), -self._quiet_seconds - 1))
            kept[demand.service] = (known, at) if known == counters else (counters, now)
            if told.busy or now - kept[demand.service][1] <= self._quiet_seconds:
                found[demand.service] = told
        self._changed = kept
        return found


def _told(demand: Demand) -> ServiceDemand:
    names = (field.name for field in dataclasses.fields(ServiceDemand))
    return ServiceDemand(**{name: getattr(demand, name) for name in names})


class Keeper:
    """Writes the Lease `name` of `namespace` until cancelled; `end` deletes it."""

    def __init__(
        self,
        client: Client,
        rooms: Rooms,
        namespace: str,
        name: str,
        labels: Mapping[str, str],
        owner: Mapping[str, Any] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        suspects: Suspects | None = None,
    ) -> None:
        self._suspects = suspects or Suspects()
        self._suspects.told = self.tell
        self._tells = list[asyncio.Future[None]]()
        """Whoever waits for the next write."""
        self._client = client
        self._rooms = rooms
        self._namespace, self._name, self._labels, self._owner = namespace, name, dict(labels), owner
        self._clock = clock
        self._began = clock()
        self._account = Account()
        self._written: dict[str, ServiceDemand] = {}
        self._urgent = asyncio.Event()
        self._failing = False

    def waits(self, service: str) -> None:
        """A request waits for a replica of this service: that is told at once, unless it was told already."""
        if not self._written.get(service, ServiceDemand()).held:
            self._urgent.set()

    def tell(self) -> None:
        """Something is to be told at once."""
        self._urgent.set()

    async def told(self, seconds: float) -> bool:
        """Wait for a write that tells what is so now; False = it took longer than `seconds`."""
        waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tells.append(waits)
        self.tell()
        try:
            async with asyncio.timeout(seconds):
                await waits
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            now = self._now()
            if self._urgent.is_set() or loop.time() >= due or _differ(now, self._written):
                self._urgent.clear()
                if await self._write(now):
                    due = loop.time() + RENEW_SECONDS
                await asyncio.sleep(APART_SECONDS)
            try:
                async with asyncio.timeout(CHANGED_SECONDS - APART_SECONDS):
                    await self._urgent.wait()
            except TimeoutError:
                pass

    async def end(self) -> None:
        """Nothing is asked for here any more, and this gateway is gone."""
        path = LEASE.path(self._namespace, self._name)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._client.send("delete", LEASE, path)
        except (ApiError, TimeoutError) as error:
            logger.warning("the Lease could not be deleted: %s", str(error) or "timed out")

    def _now(self) -> dict[str, ServiceDemand]:
        return self._account.of(map(self._rooms.demand, self._rooms.asked), asyncio.get_running_loop().time())

    async def _write(self, services: dict[str, ServiceDemand]) -> bool:
        waiting, self._tells = self._tells, []
        written = False
        try:
            written = await self._written_with(services)
            return written
        finally:
            for waits in waiting:
                if waits.done():
                    continue
                if written:
                    waits.set_result(None)
                else:
                    self._tells.append(waits)

    async def _written_with(self, services: dict[str, ServiceDemand]) -> bool:
        body = lease(
            self._namespace,
            self._name,
            encode(services),
            now=self._clock(),
            began=self._began,
            labels=self._labels,
            owner=self._owner,
            deaths=deaths_lease.encode(self._suspects.to_tell(time.monotonic())),
        )
        query = {"fieldManager": MANAGER, "force": "true"}
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._client.send("apply", LEASE, LEASE.path(self._namespace, self._name), query, body)
        except (ApiError, TimeoutError) as error:
            if not self._failing:
                logger.warning("the Lease can't be written: %s", str(error) or "timed out")
            self._failing = True
            return False
        if self._failing:
            logger.info("the Lease is written again")
        self._failing = False
        self._written = services
        return True


def _differ(one: Mapping[str, ServiceDemand], other: Mapping[str, ServiceDemand]) -> bool:
    """Whether anything but the time has changed."""
    return _timeless(one) != _timeless(other)


def _timeless(services: Mapping[str, ServiceDemand]) -> dict[str, ServiceDemand]:
    return {name: demand.timeless for name, demand in services.items()}
