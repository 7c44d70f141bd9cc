"""The leader's work: lists and watches keep the cache, workers take keys from the queue and reconcile them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from llmservice_api.labels import NAME
from llmservice_kube.cache import Cache, Key, Place, place_of
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError, LeadershipLost
from llmservice_kube.kinds import EVENT, JOB, LLM_SERVICE, OWNED, POD_MONITOR, Json, Kind
from llmservice_kube.login import Access
from llmservice_operator.control.act import Actor
from llmservice_operator.control.health import Health
from llmservice_operator.control.ledger import Ledger
from llmservice_operator.control.nodes import Nodes
from llmservice_operator.control.queue import KeyedQueue
from llmservice_operator.control.recorder import Recorder
from llmservice_operator.control.source import LONGEST_PAUSE, EventSource
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.values import Observed, Outcome
from llmservice_operator.facts.waiting import unclear
from llmservice_operator.reconcile import reconcile

RELIST_SECONDS = 600.0
"""Between two relists, and between two passes over a service that nothing woke."""
RETRY_SECONDS = 5.0
"""Between two tries of a relist that failed."""
GAP_SECONDS = 2.0
"""From the last list of kopf's, begun anew after a gap, to the relist that finds what was lost in the gap."""
COMPLAINT_SECONDS = 2 * LONGEST_PAUSE
"""How long a complaint about the watches counts: while it lasts, kopf repeats it within LONGEST_PAUSE."""
RELIST_PAGE = 100
"""Objects of a relist that are in memory at a time."""
TOGETHER_SECONDS = 0.25
"""What becomes of children comes in bursts (pod, its conditions, Deployment): one decision looks at all of it."""
URGENT = (LLM_SERVICE, JOB)
"""News of these lead to children: a spec asks for them, and what a Job learned decides on them."""
HASTE_SECONDS = 30.0
"""Their passes go before others that have waited for less: those only report, once for all that has come meanwhile."""
WORKERS = 32
"""Passes at a time."""
ROUNDS = 3
"""Passes in a row that write children before one reports all the same: somebody undoes what is written."""
SOON_SECONDS = 1.0
"""Until the next pass then."""
SELECTOR = NAME
"""What belongs to a service carries this label, whatever its value."""
Decide = Callable[[Observed, OperatorConfig, datetime], Outcome]
KINDS = (LLM_SERVICE, *OWNED)

logger = logging.getLogger(__name__)


class StillRefused(Exception):
    """Writes were refused that may succeed later; status says so, and they are tried again."""

    def __init__(self, within: float | None = None) -> None:
        super().__init__()
        self.within = within
        """Seconds after which they are tried again, however often they were refused; None = after a longer backoff."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at: `namespaces`, or all when empty; `nodes` = whether nodes may be read."""

    namespaces: tuple[str, ...] = ()
    nodes: bool = False


class Work:
    """One term of leadership."""

    def __init__(
        self,
        access: Access,
        client: Client,
        config: OperatorConfig,
        scope: Scope,
        health: Health,
        decide: Decide = reconcile,
        clock: Callable[[], float] = time.monotonic,
        resync: float = RELIST_SECONDS,
    ) -> None:
        self.client = client
        self.kinds = (*KINDS, POD_MONITOR) if config.monitoring else KINDS
        self.cache = Cache(self.kinds, NAME)
        self.queue: KeyedQueue[Key] = KeyedQueue()
        self.source = EventSource(access, self.kinds, SELECTOR, self._event, scope.namespaces, self._complaint)
        self.passes: Counter[str] = Counter()
        self.seconds = 0.0
        self._rounds: Counter[Key] = Counter()
        """Passes in a row that wrote children of a service."""
        self._ledger = Ledger()
        self._actor = Actor(client, self.cache, Recorder(client), self._ledger, clock)
        self._config = config
        self._scope = scope
        self._health = health
        self._decide_by = decide
        self._clock = clock
        self._resync_seconds = resync
        self._bell = asyncio.Event()
        self._relist_now = asyncio.Event()
        self._nodes = Nodes(client, lambda: self._wake(self.cache.services()))

    async def run(self) -> None:
        """Fill the cache, then watch and reconcile until cancelled."""
        self._health.lead()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._relist_forever())
                tasks.create_task(self.source.run(self._relist_now.set))
                if self._scope.nodes:
                    tasks.create_task(self._nodes.run())
                tasks.create_task(self._work_forever(tasks))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    async def relist(self) -> None:
        """Read everything anew. Raises ApiError when something cannot be read."""
        for kind in self.kinds:
            for namespace in self._scope.namespaces or (None,):
                await self._relist_kind(kind, namespace)
        if self._scope.nodes:
            await self._nodes.read()
        self._ledger.keep({asked[0] for key in self.cache.services() if (asked := self.cache.asked(key))})
        self._health.heard()

    async def _relist_kind(self, kind: Kind, namespace: str | None) -> None:
        there = set[Place]()

        def take(obj: Json) -> None:
            there.add(place_of(obj))
            if (key := self.cache.event(kind, "MODIFIED", obj)) is not None:
                self._wake([key])

        labels = "" if kind == LLM_SERVICE else SELECTOR
        listing = await self.client.list(kind, namespace, labels=labels, limit=RELIST_PAGE, each=take)
        self._wake(self.cache.sweep(kind, namespace, there, listing.resource_version))

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one service; seconds until the next one that no event would bring.

        A pass that writes children does not report: what it wrote has consequences, and status is to tell of them,
        not of each step.
        """
        if (service := self.cache.get(LLM_SERVICE, *key)) is None:
            self._nodes.told(key, None)
            self._rounds.pop(key, None)
            return None
        children = tuple(self.cache.of(key))
        self.queue.looked(key)
        outcome = self._decide(service, children, await self._events(key[0], children))
        if wrote := await self._actor.children(service, outcome):
            self._rounds[key] += 1
            if self._rounds[key] < ROUNDS:
                return TOGETHER_SECONDS
        del self._rounds[key]
        await self._actor.report(service, outcome)
        self._nodes.told(key, outcome.status)
        uid = service["metadata"]["uid"]
        if self._ledger.to_try_again(uid):
            raise StillRefused(outcome.requeue_after)
        waits = (SOON_SECONDS if wrote else None, outcome.requeue_after, self._ledger.due(uid, self._clock()))
        return min((wait for wait in waits if wait is not None), default=None)

    async def _events(self, namespace: str, children: Sequence[Json]) -> tuple[Json, ...]:
        """What was said about children that wait. Nothing where Events may not be read: they are an extra."""
        found: list[Json] = []
        for uid in unclear(children):
            try:
                listing = await self.client.list(EVENT, namespace, fields=f"involvedObject.uid={uid}")
            except ApiError as error:
                if not error.refused:
                    raise
                logger.info("Events may not be read, so status says less of what waits: %s", error.message)
                return ()
            found += listing.items
        return tuple(found)

    def _decide(self, service: Json, children: tuple[Json, ...], events: tuple[Json, ...]) -> Outcome:
        refused = self._ledger.refused(service["metadata"]["uid"])
        observed = Observed(service, children, self._nodes.kinds, tuple(refused.values()), events)
        return self._decide_by(observed, self._config, datetime.now(UTC))

    def _event(self, kind: Kind, event: str | None, obj: Json) -> None:
        self._health.heard()
        if event is None:  # kopf has listed anew, and says nothing of what went away in between
            self._relist_now.set()
        asked = self.cache.asked(place_of(obj)) if kind == LLM_SERVICE else None
        key = self.cache.event(kind, event, obj)
        if key is not None and (asked is None or asked != self.cache.asked(key)):  # nobody but us writes status
            self._wake([key], -HASTE_SECONDS if kind in URGENT else TOGETHER_SECONDS)
        if kind == LLM_SERVICE and event == "DELETED":
            self._ledger.forget(obj["metadata"]["uid"])

    def _complaint(self, message: str) -> None:
        self._health.problem("watch", message, COMPLAINT_SECONDS)

    def _wake(self, keys: Sequence[Key] | set[Key], delay: float = 0.0) -> None:
        at = self._clock() + delay
        for key in keys:
            if key[1]:
                self.queue.wake(key, at)
        self._bell.set()

    async def _relist_forever(self) -> None:
        while True:
            self._relist_now.clear()
            try:
                await self.relist()
            except ApiError as error:
                self._health.problem("relist", str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._health.solved("relist")
            self._bell.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._resync()):
                    await self._relist_now.wait()
                    while self._relist_now.is_set():  # kopf still lists
                        self._relist_now.clear()
                        await asyncio.sleep(GAP_SECONDS)

    async def _work_forever(self, tasks: asyncio.TaskGroup) -> None:
        """Passes over what is due, WORKERS at a time."""
        room = asyncio.Semaphore(WORKERS)
        while True:
            await room.acquire()
            tasks.create_task(self._pass(await self._next())).add_done_callback(lambda _: room.release())

    async def _next(self) -> Key:
        """Wait for a key that is due."""
        while True:
            due = None
            self._bell.clear()
            if self.cache.complete:
                if (key := self.queue.take(self._clock())) is not None:
                    return key
                due = self.queue.next_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                    await self._bell.wait()

    async def _pass(self, key: Key) -> None:
        """One pass, its bookkeeping, and the rule that no service's failure is another's."""
        began = self._clock()
        name = "/".join(key)
        try:
            again = await self.reconcile(key)
        except LeadershipLost:
            raise
        except StillRefused as refused:
            self.passes["refused"] += 1
            self.queue.failed(key, self._clock())
            if refused.within is not None:
                self.queue.wake(key, self._clock() + refused.within)
        except ApiError as error:
            self.passes["error"] += 1
            wait = self.queue.failed(key, self._clock(), error.retry_after or 0.0)
            logger.warning("%s: %s; again in %.0f s", name, error, wait)
        except Exception:
            self.passes["bug"] += 1
            wait = self.queue.failed(key, self._clock())
            logger.exception("%s: a pass failed by a bug; again in %.0f s", name, wait)
        else:
            self.passes["done"] += 1
            self.queue.done(key)
            if self.cache.version(LLM_SERVICE, *key) is not None:
                resync = self._resync()
                self.queue.wake(key, self._clock() + (resync if again is None else min(again, resync)))
        self.seconds += self._clock() - began
        self._bell.set()

    def _resync(self) -> float:
        """Seconds, spread so that services do not all come at once."""
        return self._resync_seconds * random.uniform(0.8, 1.2)
