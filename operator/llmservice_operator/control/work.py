"""The leader's work: a term of loops. Lists and watches keep the cache, and a pass looks at one service of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from llmservice_api.conditions import ConditionType
from llmservice_api.labels import NAME
from llmservice_kube.answers import MARK
from llmservice_kube.cache import Key, place_of
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError, LeadershipLost
from llmservice_kube.kinds import EVENT, JOB, LLM_SERVICE, OWNED, POD_MONITOR, Json, Kind
from llmservice_kube.login import Access
from llmservice_kube.mirror import RELIST_SECONDS, Mirror
from llmservice_kube.unreadable import names_and_status
from llmservice_operator.control.act import Actor
from llmservice_operator.control.adapters import Adapters
from llmservice_operator.control.first_key import FirstKey
from llmservice_operator.control.health import Health
from llmservice_operator.control.leases import Leases
from llmservice_operator.control.ledger import Ledger
from llmservice_operator.control.loads import Loads
from llmservice_operator.control.nodes import Nodes
from llmservice_operator.control.older_crd import OlderCrd
from llmservice_operator.control.passes import Passes, StillRefused
from llmservice_operator.control.recorder import Recorder
from llmservice_operator.control.rivals import Rivals
from llmservice_operator.control.scaling import Scaling
from llmservice_operator.control.source import LONGEST_PAUSE, EventSource
from llmservice_operator.control.term import Loop, run_term
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.live import holds
from llmservice_operator.facts.shapes import readable
from llmservice_operator.facts.values import Observed, Outcome
from llmservice_operator.facts.waiting import unclear
from llmservice_operator.reconcile import reconcile
from llmservice_operator.status.internal_error import internal_error
from llmservice_operator.status.unreadable import unreadable

COMPLAINT_SECONDS = 2 * LONGEST_PAUSE
"""How long a complaint about the watches counts: while it lasts, kopf repeats it within LONGEST_PAUSE."""
TOGETHER_SECONDS = 0.25
"""What becomes of children comes in bursts (pod, its conditions, Deployment): one decision looks at all of it."""
URGENT = (LLM_SERVICE, JOB)
"""News of these lead to children: a spec asks for them, and what a Job learned decides on them."""
HASTE_SECONDS = 30.0
"""Their passes go before others that have waited for less: those only report, once for all that has come meanwhile."""
EVENTS_SECONDS = 5.0
"""How long a pass waits for Events."""
ROUNDS = 3
"""Passes in a row that write children before one reports all the same: somebody undoes what is written."""
SOON_SECONDS = 1.0
"""Until the next pass then."""
SELECTOR = NAME
"""What belongs to a service carries this label, whatever its value."""
Decide = Callable[[Observed, OperatorConfig, datetime], Outcome]
KINDS = (LLM_SERVICE, *OWNED)

logger = logging.getLogger(__name__)


def _read(kind: Kind, obj: Json) -> Json:
    return readable(kind.kind, obj)


def _stand_in(kind: Kind, obj: Json, error: Exception) -> Json | None:
    """A service that can't be read is told so in its status; of other objects the log tells."""
    return names_and_status(kind, obj, error) if kind == LLM_SERVICE else None


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
        selectors = {kind: "" if kind == LLM_SERVICE else SELECTOR for kind in self.kinds}
        rare = {POD_MONITOR: config.monitoring.namespaces} if config.monitoring and config.monitoring.namespaces else {}
        self.mirror = Mirror(
            client,
            selectors,
            NAME,
            scope.namespaces,
            changed=self._wake,
            left=self._left,
            read=_read,
            stand_in=_stand_in,
            done=self._relisted,
            seconds=resync,
            rare=rare,
        )
        self.cache = self.mirror.cache
        watched = {kind: selector for kind, selector in selectors.items() if kind not in rare}  # kopf: all or none
        self.source = EventSource(
            access, watched, self._event, scope.namespaces, gap=self.mirror.gap, complain=self._complaint
        )
        self.passes = Passes(self.reconcile, self._tell_bug, lambda: self.informed, self.cache, clock, resync)
        self.ready: dict[Key, bool] = {}
        """Whether each service is Ready, as status says."""
        self.adapters: dict[Key, Counter[str]] = {}
        """How many adapters of a service that has some are in which state, as status says."""
        self._rounds: Counter[Key] = Counter()
        """Passes in a row that wrote children of a service."""
        self._ledger = Ledger()
        self._actor = Actor(client, self.cache, Recorder(client), self._ledger, clock, OlderCrd(health, clock))
        self._config = config
        self._scope = scope
        self._health = health
        self._decide_by = decide
        self._clock = clock
        self._nodes = Nodes(
            client,
            lambda: self._wake(self.cache.services()),
            read_at_all=scope.nodes,
            unreadable=self.cache.unreadable,
            failed=self._nodes_read,
            seconds=resync,
        )
        self.rivals = Rivals(
            client, config.operator_namespace, health, lambda: self._wake(self.cache.services()), clock
        )
        self._loads = Loads(lambda key: self._wake([key]))
        self._adapters = Adapters(lambda key: self._wake([key]), clock)
        self.scaling = Scaling(client, self.cache, self._actor.recorder, config, lambda key: self._wake([key]), clock)
        self.loops = self._term(config, scope, resync)

    def _term(self, config: OperatorConfig, scope: Scope, resync: float) -> list[Loop]:
        """What goes on for the whole term."""
        loops = [
            Loop("loads", self._loads.run),
            Loop("adapters", self._adapters.run),
            Loop("relist", self.mirror.run),
            Loop("watch", self.source.run),
            Loop("installations", self.rivals.run),
            Loop("passes", self.passes.run),
            Loop("scaling", self.scaling.run),
            Loop("supervisors", self.scaling.supervisors.run),
        ]
        if self.scaling.prometheus is not None:
            loops.append(Loop("prometheus", self.scaling.prometheus.run))
        if config.gateway is not None:
            labels = dict(config.gateway.labels)
            leases = Leases(self.client, config.demand_namespace, labels, self.scaling, self._health, resync)
            loops.append(Loop("gateways", leases.run))
            if config.gateway.keys:
                first = FirstKey(self.client, config.operator_namespace, config.gateway.service, labels, self._health)
                loops.append(Loop("first key", first.run))
        if scope.nodes:
            loops.append(Loop("nodes", self._nodes.run))
        return loops

    async def run(self) -> None:
        """Fill the cache, then watch and reconcile until cancelled. Raises LeadershipLost when the term is over."""
        self._health.lead()
        await run_term(self.loops, self._health)

    async def relist(self) -> None:
        """Read everything anew. Raises ApiError when something cannot be read."""
        await self.mirror.relist()
        if self._scope.nodes:
            await self._nodes.read()

    @property
    def informed(self) -> bool:
        """Whether all that passes read was read once in this term, at least in one of the namespaces.

        A plan is frozen, and must not be made of less. One namespace that is gone, or may not be read, costs no other.
        """
        return self.cache.useful and self._nodes.known

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one service; seconds until the next one that no event would bring.

        A pass that writes children does not report: what it wrote has consequences, and status is to tell of them,
        not of each step.
        """
        if (service := self.cache.get(LLM_SERVICE, *key)) is None:
            self._nodes.told(key, None)
            self._loads.forget(key)
            self._adapters.forget(key)
            self.rivals.forget(key)
            self._untold(key)
            self._rounds.pop(key, None)
            return None
        if (holder := self._holder(service)) is not None:
            self._untold(key)
            if self.rivals.to_tell(key, holder):
                await self._actor.left(service, holder, self._config.operator_namespace)
            return None
        if MARK in service:
            return None if await self._tell_unreadable(key, service) else TOGETHER_SECONDS
        children = tuple(self.cache.of(key))
        self.passes.queue.looked(key)
        self._loads.look(key, children)
        self._adapters.look(key, children)
        outcome = self._decide(service, children, await self._events(key[0], children))
        if wrote := await self._actor.children(service, outcome):
            self._rounds[key] += 1
            if self._rounds[key] < ROUNDS:
                return TOGETHER_SECONDS
        del self._rounds[key]
        if not await self._actor.report(service, outcome):
            return TOGETHER_SECONDS
        self._nodes.told(key, outcome.status)
        self._reported(key, outcome)
        uid = service["metadata"]["uid"]
        if self._ledger.to_try_again(uid):
            raise StillRefused(outcome.requeue_after)
        waits = (SOON_SECONDS if wrote else None, outcome.requeue_after, self._ledger.due(uid, self._clock()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _holder(self, service: Json) -> str | None:
        """The other installation that has the service, if one has."""
        self.rivals.learn(
            lambda: (known for key in self.cache.services() if (known := self.cache.get(LLM_SERVICE, *key)))
        )
        return self.rivals.holder(service)

    async def _events(self, namespace: str, children: Sequence[Json]) -> tuple[Json, ...]:
        """What was said about children that wait. Nothing where Events can't be read: they are an extra."""
        found: list[Json] = []
        for uid in unclear(children):
            try:
                async with asyncio.timeout(EVENTS_SECONDS):
                    listing = await self.client.list(EVENT, namespace, fields=f"involvedObject.uid={uid}")
            except (ApiError, TimeoutError) as error:
                why = str(error) or f"no answer within {EVENTS_SECONDS:.0f} s"
                logger.info("Events can't be read, so status says less of what waits: %s", why)
                break
            found += self.cache.unreadable.readable(EVENT, listing.items, _read)
        return tuple(found)

    def _decide(self, service: Json, children: tuple[Json, ...], events: tuple[Json, ...]) -> Outcome:
        refused = self._ledger.refused(service["metadata"]["uid"])
        loads = self._loads.of(place_of(service))
        on_claim = "persistentVolumeClaim" in (service["spec"].get("cache") or ())
        beside = tuple(self.cache.services_in(service["metadata"]["namespace"])) if on_claim else ()
        observed = Observed(
            service,
            children,
            self._nodes.kinds,
            tuple(refused.values()),
            events,
            beside,
            loads,
            self.scaling.told(place_of(service)),
            self._adapters.of(place_of(service)),
        )
        return self._decide_by(observed, self._config, datetime.now(UTC))

    def _event(self, kind: Kind, event: str | None, obj: Json) -> None:
        self._health.heard()
        asked = self.cache.asked(place_of(obj)) if kind == LLM_SERVICE else None
        key = self.mirror.event(kind, event, obj)
        if key is not None and (asked is None or asked != self.cache.asked(key)):  # our own status is no news
            self._wake([key], -HASTE_SECONDS if kind in URGENT else TOGETHER_SECONDS)

    def _left(self, kind: Kind, uid: str) -> None:
        """An object is there no longer: nothing is remembered of a service that is gone, however that became known."""
        if kind == LLM_SERVICE:
            self._ledger.forget(uid)

    def _relisted(self, error: ApiError | None) -> None:
        if error is not None:
            self._health.problem("relist", str(error))
            if error.refused or error.missing:
                self._health.heard()
            return
        uids = (self.cache.uid(LLM_SERVICE, *key) for key in self.cache.services())
        self._ledger.keep({uid for uid in uids if uid})  # a pass may remember something of one that went meanwhile
        self._health.solved("relist")
        self._health.heard()
        self.passes.look()

    def _nodes_read(self, error: ApiError | None) -> None:
        if error is None:
            self._health.solved("nodes")
        else:
            self._health.problem("nodes", str(error))

    def _complaint(self, message: str) -> None:
        self._health.problem("watch", message, COMPLAINT_SECONDS)

    def _wake(self, keys: Collection[Key], delay: float = 0.0) -> None:
        self.scaling.changed(keys)
        self.passes.wake(keys, delay)

    async def _tell_bug(self, key: Key, error: Exception) -> None:
        """Say in the service's status that a pass failed by a bug; a pass that succeeds says something else again."""
        try:
            if (service := self.cache.get(LLM_SERVICE, *key)) is None:
                return
            outcome = internal_error(service, tuple(self.cache.of(key)), error, datetime.now(UTC))
            await self._actor.report(service, outcome)
            self._reported(key, outcome)
        except LeadershipLost:
            raise
        except Exception as failure:
            logger.warning("%s: the bug could not be told in status: %s", "/".join(key), failure)

    async def _tell_unreadable(self, key: Key, service: Json) -> bool:
        """Say in the service's status that it can't be read, and look at nothing else of it.

        False when it has changed meanwhile.
        """
        outcome, same = unreadable(service, service[MARK], datetime.now(UTC)), True
        try:
            same = await self._actor.report(service, outcome)
        except ApiError as error:
            if not error.taken:
                raise
        self._reported(key, outcome)
        return same

    def _reported(self, key: Key, outcome: Outcome) -> None:
        status = outcome.status or {}
        self.ready[key] = holds({"status": status}, ConditionType.READY)
        self.adapters[key] = Counter(adapter["state"] for adapter in status.get("adapters", ()))
        self.scaling.changed((key,))  # the first report makes the service ours

    def _untold(self, key: Key) -> None:
        """Metrics have nothing of it any more."""
        self.ready.pop(key, None)
        self.adapters.pop(key, None)
