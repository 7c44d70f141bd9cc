"""Writes what keys used to a ConfigMap that all gateways share, now and then."""

from __future__ import annotations

import asyncio
import logging

from llmservice_api.gateway_usage import Days, added
from llmservice_gateway.cluster.lease import MANAGER
from llmservice_gateway.keys.usage import Usage
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CONFIG_MAP

WRITE_SECONDS = 60.0
"""Between two writes of a gateway that was used; what a killed one had not written is lost."""
LAST_SECONDS = 5.0
"""For the last write."""
TRIES = 8
"""Of one write: other gateways add theirs in between."""

logger = logging.getLogger(__name__)


class UsageKeeper:
    """Adds what `usage` counted to the ConfigMap, which the chart makes, until `run` is cancelled; `end` afterwards."""

    def __init__(self, client: Client, usage: Usage, namespace: str, name: str) -> None:
        self._client, self._usage = client, usage
        self._namespace, self._name = namespace, name
        self._failing = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def end(self) -> None:
        """What is left."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.write()
        except TimeoutError:
            logger.warning("what keys used in the last minute could not be written: timed out")

    async def write(self) -> None:
        """Once, if anything was counted. What can't be written is counted on."""
        if not (days := self._usage.taken()):
            return
        try:
            for _ in range(TRIES):
                if await self._add(days):
                    self._failing = False
                    return
            why = "others write it all the time"
        except ApiError as error:
            why = str(error)
        except asyncio.CancelledError:
            self._usage.give_back(days)
            raise
        self._usage.give_back(days)
        if not self._failing:
            logger.warning("what keys used can't be written, and is counted on: %s", why)
        self._failing = True

    async def _add(self, days: Days) -> bool:
        """False: somebody wrote meanwhile."""
        path = CONFIG_MAP.path(self._namespace, self._name)
        found = await self._client.send("get", CONFIG_MAP, path)
        changed = added(found.get("data") or {}, days)
        body = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "data": changed}
        try:
            await self._client.send("patch", CONFIG_MAP, path, {"fieldManager": MANAGER}, body)
        except ApiError as error:
            if error.conflict:
                return False
            raise
        return True
