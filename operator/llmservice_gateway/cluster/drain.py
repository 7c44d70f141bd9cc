"""The end of a gateway: it goes on for a while, since proxies learn late that it goes, and then until it is idle."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from llmservice_gateway.proxy import Proxy
from llmservice_runtime.wire.plain import Answer, Plain
from llmservice_runtime.wire.server import PLAIN, ApiRunner

ACCEPT_SECONDS = 10.0
DRAIN_SECONDS = 300.0

logger = logging.getLogger(__name__)


class Ending:
    """`begun` once the end was asked for: from then on the answer to each request that comes closes its connection."""

    def __init__(self, accept_seconds: float = ACCEPT_SECONDS, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._accept_seconds, self._drain_seconds = accept_seconds, drain_seconds
        self._asked = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Requests are still answered, and new ones should go elsewhere."""
        return self._asked.is_set()

    def ask(self) -> None:
        """End soon."""
        self._asked.set()

    def closes_connections(self, app: web.Application) -> None:
        """Has clients of `app` open others, elsewhere, once the end has begun."""

        async def close(_: web.Request, response: web.StreamResponse) -> None:
            if self.begun:
                response.headers["Connection"] = "close"
                response.force_close()

        def plain(request: Plain) -> Answer | None:
            return None if self.begun else take(request)  # aiohttp closes it, as above

        app.on_response_prepare.append(close)
        take, app[PLAIN] = app[PLAIN], plain

    async def over(self, proxy: Proxy, site: web.BaseSite, runner: ApiRunner) -> None:
        """Wait to be asked, then for the end: nothing runs or waits any more, or that took too long.

        What waits is not refused before: its demand may be what wakes a service, and it would have to wait anew.
        """
        await self._asked.wait()
        logger.info("told to end: requests are taken for %.0f s more", self._accept_seconds)
        await asyncio.sleep(self._accept_seconds)
        await site.stop()
        runner.close_connections()
        logger.info("draining: %d requests run, %d wait", proxy.running, proxy.rooms.held)
        try:
            async with asyncio.timeout(self._drain_seconds):
                await proxy.wait_idle()
        except TimeoutError:
            logger.warning(
                "%d requests run and %d wait after %.0f s", proxy.running, proxy.rooms.held, self._drain_seconds
            )
        proxy.drain()
        await asyncio.sleep(0.1)  # those that waited are told
