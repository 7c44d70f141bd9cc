"""Which adapters each replica has loaded, as its engine lists them: an adapter's requests go to no other one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import aiohttp
from pydantic_core import from_json

from llmservice_gateway.cluster.queues import ANSWER_SECONDS, TOGETHER, read_of
from llmservice_gateway.rooms import Rooms
from llmservice_gateway.routing import Replica

LOOK_SECONDS = 2.0
"""Between two questions to each replica of a service that declares adapters."""
MOST_BYTES = 1 << 20
PARENT = "parent"
"""Field of an entry of /v1/models that an adapter has, and a model has not."""

Loaded = Mapping[str, frozenset[str]]
"""Replica -> names of adapters that it has loaded. Who has none, or says nothing, is not in it."""


def loaded_in(body: bytes, declared: Collection[str]) -> frozenset[str]:
    """What an engine's /v1/models says of these names; none of what is no such list."""
    try:
        entries = from_json(body)["data"]
        named = {
            str(entry["id"]).rpartition(":")[2]
            for entry in entries
            if isinstance(entry, dict) and isinstance(entry.get(PARENT), str) and "id" in entry
        }
    except (ValueError, TypeError, KeyError):
        return frozenset()
    return frozenset(named.intersection(declared))


async def watch_loaded(rooms: Rooms, told: Callable[[Loaded], None]) -> None:
    """Ask until cancelled, and tell each time that something has changed."""
    before: Loaded = {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=TOGETHER)) as session:
        while True:
            asked = [
                (replica, {adapter.name for adapter in backend.adapters})
                for backend in rooms.table.backends.values()
                if backend.adapters
                for replica in backend.replicas
            ]
            found = await asyncio.gather(*(_ask(session, *each) for each in asked))
            now = {
                replica.name: names
                for (replica, _), said in zip(asked, found, strict=True)
                if (names := before.get(replica.name) if said is None else said)
            }
            if now != before:
                before = now
                told(now)
            await asyncio.sleep(LOOK_SECONDS)


async def _ask(session: aiohttp.ClientSession, replica: Replica, declared: Collection[str]) -> frozenset[str] | None:
    """None = it did not answer now: a busy one may be late, and what it said before counts."""
    body = await read_of(session, f"{replica.url}/v1/models", MOST_BYTES)
    return None if body is None else loaded_in(body, declared)
