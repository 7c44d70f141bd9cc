"""Leases of the installation's gateways: a watch brings what they tell, and a list now and then who is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from llmservice_api.labels import GATEWAY, selector
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LEASE, Json, Kind
from llmservice_kube.watching import follow
from llmservice_operator.control.health import Health

RETRY_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told."""

    def lease(self, event: str, lease: Json) -> None:
        """One came, changed or went."""

    def only(self, names: set[str]) -> None:
        """There are these, and no others."""


class Leases:
    """Of one namespace. That they can't be read is told in readiness: nothing scales to what gateways are asked."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        labels: Mapping[str, str],
        listener: Listener,
        health: Health,
        seconds: float,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector({**labels, **GATEWAY})
        self._listener = listener
        self._health = health
        self._seconds = seconds

    async def run(self) -> None:
        """Until cancelled."""

        def take(_: Kind, event: str, lease: Json) -> None:
            self._listener.lease(event, lease)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(self._client, LEASE, self._namespace, self._selector, take, lambda: None))
            tasks.create_task(self._relist())

    async def _relist(self) -> None:
        while True:
            try:
                found = (await self._client.list(LEASE, self._namespace, labels=self._selector)).items
            except ApiError as error:
                self._health.problem(
                    "gateways", f"{error}: what gateways are asked is not known, so nothing is scaled down"
                )
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._health.solved("gateways")
            self._listener.only({lease["metadata"]["name"] for lease in found})
            await asyncio.sleep(self._seconds)
