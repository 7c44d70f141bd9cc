"""Prometheus as the source of what replicas have to do: four queries every few seconds, for all services together."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import aiohttp
from pydantic_core import from_json

from llmservice_operator.demand.promql import Answers, Pod, queries, vector
from llmservice_operator.demand.replicas import Replica, Work
from llmservice_operator.facts.config import PrometheusServer

ASK_SECONDS = 5.0
"""Between two questions."""
ANSWER_SECONDS = 10.0
LARGEST = 16 << 20
"""Bytes of an answer that are read."""

logger = logging.getLogger(__name__)


class Prometheus:
    """Only series of pods that exist now count. `told` is by the pod's uid; of what is not told it has nothing."""

    def __init__(self, server: PrometheusServer, clock: Callable[[], float] = time.monotonic) -> None:
        self.told: dict[str, Work] = {}
        self._server = server
        self._clock = clock
        self._queries = queries(server)
        self._pods: dict[str, dict[Pod, str]] = {}
        """Service -> pod -> uid."""
        self._wrong = "it was not asked yet"

    def keep(self, service: str, replicas: Collection[Replica]) -> None:
        """These, and no others, are the service's."""
        namespace = service.partition("/")[0]
        pods = {(namespace, one.name): one.uid for one in replicas}
        for uid in set(self._pods.get(service, {}).values()) - set(pods.values()):
            self.told.pop(uid, None)
        if pods:
            self._pods[service] = pods
        else:
            self._pods.pop(service, None)

    def complaint(self, replicas: Collection[Replica]) -> str:
        """Why not all is told of them."""
        if self._wrong:
            return f"Prometheus at {self._server.url} does not tell: {self._wrong}"
        missing = next((one.name for one in replicas if one.uid not in self.told), "")
        return f"Prometheus has no series of {missing}" if missing else ""

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(ssl=_trust(self._server))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            while True:
                if self._pods:
                    await self.ask(session)
                await asyncio.sleep(ASK_SECONDS)

    async def ask(self, session: aiohttp.ClientSession) -> None:
        """All queries once. What was told before stays when one of them fails, and grows old."""
        asked = self._clock()
        try:
            answers = await asyncio.gather(*(self._query(session, query) for query in self._queries.values()))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            if said != self._wrong:
                logger.warning("Prometheus at %s: %s", self._server.url, said)
            self._wrong = said
            return
        if self._wrong:
            logger.info("Prometheus at %s answers", self._server.url)
        self._wrong = ""
        found = Answers(dict(zip(self._queries, answers, strict=True)))
        self.told = {
            uid: work
            for pods in self._pods.values()
            for pod, uid in pods.items()
            if (work := found.of(pod, asked, self._server.scrape_seconds)) is not None
        }

    async def _query(self, session: aiohttp.ClientSession, query: str) -> dict[Pod, float]:
        url = f"{self._server.url.rstrip('/')}/api/v1/query"
        headers = {}
        if self._server.token_file:
            token = await asyncio.to_thread(Path(self._server.token_file).read_text, encoding="utf-8")
            headers["Authorization"] = f"Bearer {token.strip()}"
        async with session.post(url, data={"query": query}, headers=headers, allow_redirects=False) as answer:
            text = await _read(answer)
        try:
            body: Any = from_json(text)
        except ValueError:
            raise ValueError(f"it answers {answer.status}, and no JSON") from None
        return vector(body)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for chunk in answer.content.iter_any():
        found += chunk
        if len(found) > LARGEST:
            raise ValueError(f"it answers more than {LARGEST >> 20} MiB")
    return bytes(found)


def _trust(server: PrometheusServer) -> ssl.SSLContext | bool:
    if not server.url.startswith("https"):
        return True
    context = ssl.create_default_context()
    if server.ca_file:
        context.load_verify_locations(cafile=server.ca_file)
    return context
