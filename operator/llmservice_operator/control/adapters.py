"""What replicas say of their adapters: who is to load some is asked over and over, seldom once all is settled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import aiohttp

from llmservice_api.adapters_told import AdapterTold, adapters_told
from llmservice_api.labels import ADAPTERS_SEEN
from llmservice_kube.cache import Key
from llmservice_kube.kinds import Json
from llmservice_operator.children.adapter_map import file_digest
from llmservice_operator.control.loads import ask_supervisor, is_ready
from llmservice_operator.facts.pod_fields import ADAPTERS
from llmservice_runtime.contract.adapters import AdapterState
from llmservice_runtime.contract.listening import in_url
from llmservice_runtime.contract.ports import SUPERVISOR_PORT

LOOK_SECONDS = 0.5
"""Between two looks at who is to be asked."""
SOON_SECONDS, SELDOM_SECONDS = 2.0, 30.0
"""Between two questions to a replica: while something is under way there, or was just asked for, and otherwise."""
NEWS_SECONDS = 120.0
"""So long after another file a replica is asked soon: it may not have seen it yet."""
AT_A_TIME = 16
SETTLED = (AdapterState.LOADED, AdapterState.FAILED, AdapterState.PENDING)
"""One that another replica tries first is pending, for as long as that takes."""

Ask = Callable[[str], Awaitable[Json]]
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asked:
    key: Key
    address: str
    due: float
    digest: str = ""
    """Of the file that its service has."""
    news: float = 0.0
    """When that was another one."""
    told: tuple[AdapterTold, ...] | None = None
    """Nothing, where it was only asked in vain; None = it was not asked yet."""
    asking: bool = field(default=False)


class Adapters:
    """What /status of each replica has under `adapters`, for passes. `changed` is told whose news there are."""

    def __init__(
        self,
        changed: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
        ask: Ask = ask_supervisor,
    ) -> None:
        self._changed, self._clock, self._ask = changed, clock, ask
        self._replicas: dict[Key, dict[str, _Asked]] = {}
        """Of each service: by the pods' uids."""

    def of(self, key: Key) -> dict[str, tuple[AdapterTold, ...]]:
        """What is known of a service's replicas."""
        known = self._replicas.get(key, {})
        return {uid: asked.told for uid, asked in known.items() if asked.told is not None}

    def look(self, key: Key, children: Iterable[Json]) -> None:
        """Ask the service's ready replicas that read which adapters to load, and no others."""
        children = tuple(children)
        digest = next((file_digest(child) for child in children if child["kind"] == "ConfigMap"), "")
        pods = {child["metadata"]["uid"]: child for child in children if child["kind"] == "Pod" and _loads(child)}
        known, now = self._replicas.get(key, {}), self._clock()
        for uid in known.keys() - pods:
            del known[uid]
        for uid, pod in pods.items():
            asked = known.setdefault(uid, _Asked(key, pod["status"]["podIP"], now, news=now))
            seen = (pod["metadata"].get("annotations") or {}).get(ADAPTERS_SEEN, "")
            if asked.digest != (at := f"{digest} {seen}"):
                asked.digest, asked.news, asked.due = at, now, min(asked.due, now + LOOK_SECONDS)
        if known:
            self._replicas[key] = known
        else:
            self._replicas.pop(key, None)

    def forget(self, key: Key) -> None:
        """The service is gone."""
        self._replicas.pop(key, None)

    async def run(self) -> None:
        """Ask until cancelled."""
        room = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as tasks:
            while True:
                now = self._clock()
                due = [asked for known in self._replicas.values() for asked in known.values() if asked.due <= now]
                for asked in due:
                    if not asked.asking:
                        await room.acquire()
                        asked.asking = True
                        tasks.create_task(self._learn(asked)).add_done_callback(lambda _: room.release())
                await asyncio.sleep(LOOK_SECONDS)

    async def _learn(self, asked: _Asked) -> None:
        url = f"http://{in_url(asked.address)}:{SUPERVISOR_PORT}/status"
        silent = False
        try:
            told: tuple[AdapterTold, ...] = adapters_told(await self._ask(url))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.info("%s does not tell of its adapters: %s", url, error or type(error).__name__)
            told, silent = asked.told or (), True
        finally:
            asked.asking = False
        now = self._clock()
        under_way = silent or any(one.state not in SETTLED for one in told) or now - asked.news < NEWS_SECONDS
        asked.due = now + (SOON_SECONDS if under_way else SELDOM_SECONDS)
        if told != asked.told:
            asked.told = told
            self._changed(asked.key)


def _loads(pod: Json) -> bool:
    volumes = pod["spec"].get("volumes", ())
    return is_ready(pod) and any(volume["name"] == ADAPTERS for volume in volumes)
