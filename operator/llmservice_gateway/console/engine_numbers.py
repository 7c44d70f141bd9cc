"""What engines tell of themselves in their metrics: how much they do now, and how full they are."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from llmservice_gateway.cluster.queues import ANSWER_SECONDS, MOST_BYTES, TOGETHER, read_of
from llmservice_gateway.routing import Replica
from llmservice_runtime.contract.metrics import GENERATION_TOKENS, KV_CACHE_USAGE, REQUESTS_RUNNING, REQUESTS_WAITING

_GENERATED = f"{GENERATION_TOKENS}_total"
_NAMES = "|".join((REQUESTS_RUNNING, REQUESTS_WAITING, KV_CACHE_USAGE, _GENERATED))
_SAMPLE = re.compile(rf"^({_NAMES})(?:\{{[^}}\n]*\}})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of one replica; NaN = it does not say. `generated` tokens since it started."""

    running: float = math.nan
    waiting: float = math.nan
    kv_used: float = math.nan
    generated: float = math.nan


def numbers_in(text: str) -> Numbers:
    """What metrics say; several series of one name are added up, but for shares, of which the highest counts."""
    found: dict[str, list[float]] = {}
    for name, value in _SAMPLE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number) and number >= 0:
            found.setdefault(name, []).append(number)
    return Numbers(
        running=sum(found.get(REQUESTS_RUNNING, (math.nan,))),
        waiting=sum(found.get(REQUESTS_WAITING, (math.nan,))),
        kv_used=max(found.get(KV_CACHE_USAGE, (math.nan,))),
        generated=sum(found.get(_GENERATED, (math.nan,))),
    )


async def ask_all(replicas: Sequence[Replica]) -> dict[str, Numbers]:
    """By the names of replicas; who does not answer in time is not in it."""
    if not replicas:
        return {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=TOGETHER)) as session:
        texts = await asyncio.gather(*(read_of(session, f"{one.url}/metrics", MOST_BYTES) for one in replicas))
    return {
        one.name: numbers_in(text.decode(errors="replace"))
        for one, text in zip(replicas, texts, strict=True)
        if text is not None
    }
