"""How long the engines' own queues are: requests that reach them past the gateways take places, too."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping

import aiohttp

from llmservice_gateway.rooms import Rooms
from llmservice_gateway.routing import Replica
from llmservice_runtime.contract.metrics import REQUESTS_WAITING

LOOK_SECONDS = 2.0
"""Between two questions to each replica of a service that has requests."""
ANSWER_SECONDS = 2.0
TOGETHER = 32
MOST_BYTES = 4 << 20
_SAMPLE = re.compile(rf"^{REQUESTS_WAITING}(?:\{{[^}}\n]*\}})? (\S+)$", re.MULTILINE)

Queues = Mapping[str, int]
"""Replica -> requests that wait there. Who says nothing is not in it, and counts as 0."""


def waiting_in(text: str) -> int | None:
    """What an engine's metrics say; None when they don't."""
    try:
        values = [float(value) for value in _SAMPLE.findall(text)]
    except ValueError:
        return None
    if not values or not all(math.isfinite(value) and value >= 0 for value in values):
        return None
    return int(sum(values))


async def watch_queues(rooms: Rooms, told: Callable[[Queues], None]) -> None:
    """Ask until cancelled, and tell each time that something has changed."""
    before: Queues = {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=TOGETHER)) as session:
        while True:
            busy = [backend for name, backend in rooms.table.backends.items() if rooms.busy(name)]
            asked = [replica for backend in busy for replica in backend.replicas]
            found = await asyncio.gather(*(_ask(session, replica) for replica in asked))
            now = {replica.name: count for replica, count in zip(asked, found, strict=True) if count}
            if now != before:
                before = now
                told(now)
            await asyncio.sleep(LOOK_SECONDS)


async def _ask(session: aiohttp.ClientSession, replica: Replica) -> int | None:
    text = await read_of(session, f"{replica.url}/metrics", MOST_BYTES)
    return None if text is None else waiting_in(text.decode(errors="replace"))


async def read_of(session: aiohttp.ClientSession, url: str, most: int) -> bytes | None:
    """What a replica answers there, at most so many bytes; None where it does not, or says more."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            text = bytearray()
            async for chunk in response.content.iter_any():  # read(n) gives what is there, which may be a part
                text += chunk
                if len(text) > most:
                    return None
            return bytes(text)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
