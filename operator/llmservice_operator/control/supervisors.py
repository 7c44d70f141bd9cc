"""Asking replicas what they have to do, over and over: one connection each, kept between two questions."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

import aiohttp

from llmservice_kube.kinds import Json
from llmservice_operator.control.loads import ask_within
from llmservice_operator.demand.replicas import Replica, Work, work
from llmservice_runtime.contract.listening import in_url
from llmservice_runtime.contract.ports import SUPERVISOR_PORT

READ_SECONDS = 5.0
"""Between two questions to the same replica, at most."""
LOOK_SECONDS = 0.5
"""Between two looks at who is to be asked: it spreads them."""
AT_A_TIME = 64
AT_ONCE_SECONDS = 2.0
"""How long an answer is waited for that a decision needs."""

Ask = Callable[[aiohttp.ClientSession, str], Awaitable[Json]]
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asked:
    replica: Replica
    due: float
    silent: str = ""
    """Why it did not answer the last time."""


@dataclass(slots=True)
class Supervisors:
    """Asks those that `replicas` names. `told` has the last answer of each, by the pod's uid."""

    ask: Ask = ask_within
    clock: Callable[[], float] = time.monotonic
    port: int = SUPERVISOR_PORT
    polls: bool = True
    """False = only `read_now` asks."""
    told: dict[str, Work] = field(default_factory=dict)
    _known: dict[str, _Asked] = field(default_factory=dict)
    _of: dict[str, set[str]] = field(default_factory=dict)
    """Service -> uids of its replicas."""
    _session: aiohttp.ClientSession | None = None

    def keep(self, service: str, replicas: Collection[Replica]) -> None:
        """These, and no others, are the service's that can be asked."""
        uids = {one.uid for one in replicas}
        for uid in self._of.get(service, set()) - uids:
            self._known.pop(uid, None)
            self.told.pop(uid, None)
        if not uids:
            self._of.pop(service, None)
            return
        self._of[service] = uids
        for one in replicas:
            if (known := self._known.get(one.uid)) is None:
                self._known[one.uid] = _Asked(one, self.clock())
            else:
                known.replica = one

    def complaint(self, replicas: Collection[Replica]) -> str:
        """Which of them does not answer, and why; empty when all do."""
        silent = [known for one in replicas if (known := self._known.get(one.uid)) and known.silent]
        return f"{silent[0].replica.name} does not tell what it does: {silent[0].silent}" if silent else ""

    async def run(self) -> None:
        """Ask until cancelled."""
        room = asyncio.Semaphore(AT_A_TIME)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3 * READ_SECONDS)
        timeout = aiohttp.ClientTimeout(total=3.0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            asyncio.TaskGroup() as tasks,
        ):
            self._session = session
            try:
                while True:
                    for known in self._due():
                        await room.acquire()
                        tasks.create_task(self._read(session, known)).add_done_callback(lambda _: room.release())
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                self._session = None

    async def read_now(self, replicas: Collection[Replica]) -> dict[str, Work]:
        """Ask these at once; what all told. Who does not answer soon told nothing: a busy one may be late."""
        if (session := self._session) is None:
            return dict(self.told)
        began = self.clock()
        asked = [known for one in replicas if (known := self._known.get(one.uid))]
        async with asyncio.TaskGroup() as tasks:
            for known in asked:
                tasks.create_task(self._read(session, known, AT_ONCE_SECONDS))
        late = {one.uid for one in replicas if one.uid in self.told and self.told[one.uid].at < began}
        return {uid: work for uid, work in self.told.items() if uid not in late}

    def _due(self) -> list[_Asked]:
        now = self.clock()
        due = [known for known in self._known.values() if known.due <= now] if self.polls else []
        for known in due:
            known.due = now + READ_SECONDS * random.uniform(0.8, 1.0)  # so that they do not stay together
        return due

    async def _read(self, session: aiohttp.ClientSession, known: _Asked, seconds: float | None = None) -> None:
        one = known.replica
        url = f"http://{in_url(one.address)}:{self.port}/status"
        try:
            async with asyncio.timeout(seconds):
                asked = self.clock()
                told = work(await self.ask(session, url), asked)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            if not known.silent:
                logger.info("%s does not tell what it does: %s", url, said)
            known.silent = said
            return
        known.silent = ""
        if self._known.get(one.uid) is known:
            self.told[one.uid] = told
