"""What replicas measured while they loaded: each is asked once, when it is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import aiohttp
from pydantic_core import from_json

from llmservice_api.labels import COMPONENT, REVISION, RUNTIME
from llmservice_kube.cache import Key
from llmservice_kube.kinds import Json
from llmservice_operator.facts.live import holds
from llmservice_operator.facts.pod_fields import CONTAINER
from llmservice_runtime.contract.listening import in_url
from llmservice_runtime.contract.ports import SUPERVISOR_PORT

ASK_SECONDS = 3.0
LARGEST = 64 << 10
"""Bytes of an answer that are read: who answers there is the tenant's."""
PAUSES = (1.0, 5.0, 30.0, 120.0)
"""Between two questions of one that does not answer, as where others' policies keep us out; then it is left alone."""
AT_A_TIME = 16

Ask = Callable[[str], Awaitable[Json]]
logger = logging.getLogger(__name__)


class Loads:
    """What /status of each replica has under `load`, for passes. `changed` is told which service there is news of."""

    def __init__(self, changed: Callable[[Key], None], ask: Ask | None = None) -> None:
        self._changed = changed
        self._ask = ask or ask_supervisor
        self._asked: dict[Key, dict[str, int]] = {}
        """Of each service: pod uid -> which start of its container was asked about."""
        self._known: dict[str, Json] = {}
        self._waiting: asyncio.Queue[tuple[Key, Json]] = asyncio.Queue()

    def of(self, key: Key) -> dict[str, Json]:
        """What is known of a service's replicas."""
        return {uid: self._known[uid] for uid in self._asked.get(key, ()) if uid in self._known}

    def look(self, key: Key, children: Iterable[Json]) -> None:
        """Have replicas asked that have become ready since, and forget those that are gone."""
        pods = {pod["metadata"]["uid"]: pod for pod in children if pod["kind"] == "Pod"}
        asked = self._asked.setdefault(key, {})
        for uid in asked.keys() - pods:
            del asked[uid]
            self._known.pop(uid, None)
        for uid, pod in pods.items():
            if is_ready(pod) and asked.get(uid) != _starts(pod):
                asked[uid] = _starts(pod)
                self._waiting.put_nowait((key, pod))

    def forget(self, key: Key) -> None:
        """The service is gone."""
        for uid in self._asked.pop(key, ()):
            self._known.pop(uid, None)

    async def run(self) -> None:
        """Ask until cancelled."""
        room = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as tasks:
            while True:
                key, pod = await self._waiting.get()
                await room.acquire()
                tasks.create_task(self._learn(key, pod)).add_done_callback(lambda _: room.release())

    async def _learn(self, key: Key, pod: Json) -> None:
        uid, start = pod["metadata"]["uid"], _starts(pod)
        url = f"http://{in_url(pod['status']['podIP'])}:{SUPERVISOR_PORT}/status"
        for pause in (*PAUSES, None):
            try:
                load = (await self._ask(url)).get("load")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError) as error:
                logger.info("%s does not tell how it loaded: %s", url, error or type(error).__name__)
                load = None
            if isinstance(load, Mapping):
                if self._asked.get(key, {}).get(uid) == start:
                    self._known[uid] = dict(load)
                    self._changed(key)
                return
            if pause is None or self._asked.get(key, {}).get(uid) != start:
                return
            await asyncio.sleep(pause)


async def ask_supervisor(url: str) -> Json:
    """`ask_within` a session of its own."""
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        return await ask_within(session, url)


async def ask_within(session: aiohttp.ClientSession, url: str) -> Json:
    """What the supervisor answers. Raises ClientError, TimeoutError, OSError, or ValueError for what is no object."""
    async with session.get(url, allow_redirects=False) as answer:
        text = await answer.content.read(LARGEST)
        while len(text) < LARGEST and (more := await answer.content.read(LARGEST - len(text))):
            text += more
    body = from_json(text)  # Python's own raises RecursionError for what is nested deep
    if not isinstance(body, dict):
        raise ValueError("it is no object")
    return body


def is_ready(pod: Json) -> bool:
    """Whether it is a replica that can be asked."""
    labels = pod["metadata"].get("labels", {})
    ours = labels.get(COMPONENT) == RUNTIME and REVISION in labels and "deletionTimestamp" not in pod["metadata"]
    return ours and holds(pod, "Ready") and bool(pod.get("status", {}).get("podIP"))


def _starts(pod: Json) -> int:
    """How often the engine's container was started again."""
    found = (c for c in pod["status"].get("containerStatuses", ()) if c["name"] == CONTAINER)
    return int(next((container.get("restartCount", 0) for container in found), 0))
