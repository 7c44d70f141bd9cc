"""The Secret with the API keys: read, watched, and read again now and then; what was read last counts meanwhile."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from llmservice_api.gateway_keys import read
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import SECRET, Json

LIFE_SECONDS = 30
"""Of one watch; the Secret is read anew after it. Where a watch's connection leads nowhere a revoked key works as long,
and 15 s more; else a fraction of a second."""
AGAIN_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds between two tries while the API server refuses or is away; twice as long each time."""

logger = logging.getLogger(__name__)


class Keys:
    """Hands to `door` what the Secret has, until `run` is cancelled.

    It is read by its name alone, which is what this program's rights are for. Before it was seen once the door stays
    shut: one that is not there yet is being made. Afterwards a Secret that goes takes all keys with it.
    """

    def __init__(self, client: Client, door: Door, namespace: str, name: str) -> None:
        self._client, self._door = client, door
        self._namespace, self._name = namespace, name
        self._told: dict[str, str] = {}
        self.problem = "they are being read"
        """Why no keys were read yet, or why none can be read now."""

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._follow()
            except ApiError as error:
                self._failed(error)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
            else:
                pause = FIRST_PAUSE
                await asyncio.sleep(AGAIN_SECONDS)  # whoever ends every watch at once is not asked without a pause

    async def _follow(self) -> None:
        """Read it, then what becomes of it, for a while."""
        fields = f"metadata.name={self._name}"
        listing = await self._client.list(SECRET, self._namespace, fields=fields)
        self._take(listing.items[0] if listing.items else None)
        version = listing.resource_version
        watch = self._client.watch(SECRET, self._namespace, "", version, LIFE_SECONDS, lambda: None, fields)
        async with aclosing(watch) as events:
            async for event, obj in events:
                if event != "BOOKMARK":
                    self._take(None if event == "DELETED" else obj)

    def _take(self, secret: Json | None) -> None:
        if secret is None and not self._door.ready:
            self._say(f"there is no Secret {self._namespace}/{self._name} yet")
            return
        records, wrong = read((secret or {}).get("data") or {})
        for name, why in wrong.items():
            if self._told.get(name) != why:
                logger.error(
                    "the API key %r of the Secret %s/%s is not used: %s", name, self._namespace, self._name, why
                )
        self._told = wrong
        if self.problem:
            logger.info("%d API keys were read", len(records))
        self.problem = ""
        self._door.publish(Ring(records))

    def _failed(self, error: ApiError) -> None:
        self._say(f"the Secret {self._namespace}/{self._name} can't be read: {error}")

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("API keys: %s", problem)
        self.problem = problem
