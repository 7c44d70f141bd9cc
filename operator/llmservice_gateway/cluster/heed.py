"""Before a request that a replica died with is tried again: others know of it, and this gateway of what they saw.

Otherwise each of two gateways would give it to a replica of its own. Deaths that are known for longer hold up nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from llmservice_gateway.cluster.lease import Keeper
from llmservice_gateway.suspects import Suspects

TOLD_SECONDS = 2.0
"""For the write that tells of it; without an API server it is tried again all the same."""
SETTLED_SECONDS = 0.5
"""From then until what another one saw in that moment is here as well."""
VERDICT_SECONDS = 5.0
"""A request that another gateway lost a replica with is tried again there first."""


class Heed:
    """`others` says whether there are other gateways."""

    def __init__(self, suspects: Suspects, keeper: Keeper, others: Callable[[], bool]) -> None:
        self._suspects, self._keeper, self._others = suspects, keeper, others

    async def __call__(self, digest: bytes) -> None:
        """Wait, if its last death is news."""
        latest = self._suspects.latest(digest, time.monotonic())
        if latest is None or not self._others():
            return
        since, here = latest
        known = self._suspects.deaths(digest, time.monotonic())
        if here and time.monotonic() - since < TOLD_SECONDS:
            await self._keeper.told(TOLD_SECONDS)
            await self._changes(digest, known, time.monotonic() + SETTLED_SECONDS)
        elif not here:
            await self._changes(digest, known, since + VERDICT_SECONDS)

    async def _changes(self, digest: bytes, known: int, until: float) -> None:
        """Until more is known of it, or it is time."""
        while (left := until - time.monotonic()) > 0 and self._suspects.deaths(digest, time.monotonic()) == known:
            self._suspects.news.clear()
            try:
                async with asyncio.timeout(left):
                    await self._suspects.news.wait()
            except TimeoutError:
                return
