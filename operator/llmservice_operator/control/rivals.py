"""Other installations over the same namespaces: a service belongs to the one that claimed it, while that one lives.

An installation is the namespace that its operator runs in: there is one Lease in it, so one leader, and a reinstalled
operator is the same one again. Its name stands in the status of each service that it looks after, which costs no write
of its own; who claims first has the service (`act.report` makes sure). It lives while its Lease is renewed, by our
clock and not by the times in it. Of a dead one services are taken over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llmservice_kube.cache import Key, place_of
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LEASE, Json
from llmservice_operator.control.health import Health

LEASE_NAME = "llmservice-operator"
WATCHED = "llmservice.dev/watched-namespaces"
"""Annotation of the Lease: what its holder watches, `a,b`; empty = all namespaces."""
RELEASE = "llmservice.dev/release"
"""Annotation of the Lease: the name of its holder's installation, which is that of the Helm release."""
GONE_SECONDS = 60.0
"""An installation whose Lease was not renewed for so long is gone: four times what a standby waits to take over."""
LOOK_SECONDS = 10.0
"""Between two looks at the Leases of others, while there are others."""
MOST_NAMES = 5

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Rival:
    """Another installation, as its Lease was seen. Pure."""

    heard: float
    """When it was first heard of, or last seen to live."""
    lives: bool = False
    """Whether its Lease was ever seen being renewed."""
    gone: bool = False
    """Whether it gave no sign of life for GONE_SECONDS."""
    watched: tuple[str, ...] = ()
    """The namespaces that it watches; empty = all, or not known."""
    _looked: float | None = None
    _mark: object = None

    def look(self, mark: object, watched: tuple[str, ...], now: float) -> bool:
        """Its Lease says `mark`, another thing each time that it is renewed; None when nobody holds it.

        True when it turned out to live, to be gone, or to watch other namespaces. Time in which nobody looked, in an
        outage, does not count.
        """
        before = self.lives, self.gone, self.watched
        if self._looked is not None and mark is not None and mark != self._mark:
            self.heard, self.lives, self.gone = now, True, False
        elif self._looked is not None and now - self._looked > 3 * LOOK_SECONDS:
            self.heard = now
        elif now - self.heard >= GONE_SECONDS:
            self.lives, self.gone = False, True
        self._looked, self._mark, self.watched = now, mark, watched
        return before != (self.lives, self.gone, self.watched)

    def has(self, namespace: str) -> bool:
        """Whether its claims count there."""
        return not self.gone and (not self.watched or namespace in self.watched)


class Rivals:
    """Who else claims services. `changed` is called when one turns out to live, or to be gone."""

    def __init__(
        self,
        client: Client,
        mine: str,
        health: Health,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._mine = mine
        self._health = health
        self._changed = changed
        self._clock = clock
        self._rivals: dict[str, Rival] = {}
        self._claims: dict[Key, str] = {}
        """Services and the installations that claim them."""
        self._told: dict[Key, str] = {}
        """Services of which it was said that they are left to another installation."""
        self._known = False
        self._bell = asyncio.Event()

    def learn(self, services: Callable[[], Iterable[Json]]) -> None:
        """What all services claim, once in a term: who is second must know it before it claims one."""
        if not self._known:
            self._known = True
            for service in services():
                self._saw(service)

    def holder(self, service: Json) -> str | None:
        """The installation that the service is to be left to; None = it is ours, or free.

        A free one is left to whoever has services in its namespace: who came second claims nothing there. Where both
        have some, because both began at the same moment, it is for the one whose name comes first.
        """
        self._saw(service)
        claim, here = _claim(service), place_of(service)[0]
        if claim:
            return None if claim == self._mine or not self._rivals[claim].has(here) else claim
        if not self._rivals:
            return None
        there = {claim for (namespace, _), claim in self._claims.items() if namespace == here}
        first = min((claim for claim in there if claim == self._mine or self._rivals[claim].has(here)), default=None)
        return None if first == self._mine else first

    def to_tell(self, key: Key, holder: str) -> bool:
        """Whether it is to be said, now, that a service is left to `holder`: once, when that surely lives."""
        if not self._rivals[holder].lives or self._told.get(key) == holder:
            return False
        self._told[key] = holder
        return True

    def forget(self, key: Key) -> None:
        """The service is gone."""
        self._claims.pop(key, None)
        self._told.pop(key, None)

    def left(self) -> dict[str, int]:
        """How many services each installation has that was seen to live."""
        counts = Counter(claim for _, claim in self._theirs())
        return dict(sorted(counts.items()))

    async def run(self) -> None:
        """Look at the Leases of others while there are others, until cancelled."""
        while True:
            self._bell.clear()
            if not self._rivals:
                await self._bell.wait()
            try:
                await self.look()
            except ApiError as error:
                logger.warning("the Lease of another installation could not be read: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look at every other installation once. Raises ApiError when the API server does not answer."""
        for name in self._rivals.keys() - set(self._claims.values()):
            del self._rivals[name]
        for name, rival in list(self._rivals.items()):
            if rival.look(*await self._lease(name), self._clock()):
                if rival.gone:
                    logger.warning("the operator in %s gave no sign of life for %.0f s", name, GONE_SECONDS)
                self._changed()
        self._report()

    async def _lease(self, namespace: str) -> tuple[object, tuple[str, ...]]:
        """What changes with each renewal (None without a holder, or where it may not be read), and what is watched."""
        try:
            lease = await self._client.get(LEASE, namespace, LEASE_NAME) or {}
        except ApiError as error:
            if not error.refused:
                raise
            if not self._rivals[namespace].gone:
                logger.info("the Lease of the operator in %s may not be read: %s", namespace, error.message)
            lease = {}
        spec, said = lease.get("spec", {}), lease.get("metadata", {}).get("annotations", {})
        mark = (spec["holderIdentity"], spec.get("renewTime")) if spec.get("holderIdentity") else None
        return mark, tuple(name for name in said.get(WATCHED, "").split(",") if name)

    def _theirs(self) -> Iterator[tuple[str, str]]:
        """(namespace, installation) of each service that is left to one that was seen to live."""
        for (namespace, _), claim in self._claims.items():
            if claim != self._mine and self._rivals[claim].lives and self._rivals[claim].has(namespace):
                yield namespace, claim

    def _report(self) -> None:
        if not (left := self.left()):
            self._health.solved("installation")
            return
        where = sorted({namespace for namespace, _ in self._theirs()})
        more = f" and {len(where) - MOST_NAMES} more" if len(where) > MOST_NAMES else ""
        self._health.problem(
            "installation",
            f"the operator in {', '.join(left)} looks after services in {', '.join(where[:MOST_NAMES])}{more}, which "
            f"this one in {self._mine} watches too and leaves alone. Uninstall one of them, or part what they watch "
            "(watchNamespaces).",
        )

    def _saw(self, service: Json) -> None:
        key, claim = place_of(service), _claim(service)
        if not claim:
            self._claims.pop(key, None)
            return
        self._claims[key] = claim
        if claim != self._mine and claim not in self._rivals:
            self._rivals[claim] = Rival(self._clock())
            self._bell.set()


def _claim(service: Json) -> str:
    found: str = service.get("status", {}).get("installation", "")
    return found


def same_namespace(lease: Json, release: str) -> str | None:
    """What to say when a release of another name holds the Lease: this one stands by, whatever it would watch."""
    holder = lease.get("spec", {}).get("holderIdentity")
    other = lease["metadata"].get("annotations", {}).get(RELEASE)
    if not (holder and other and release) or other == release:
        return None
    return (
        f"the release {other} leads in this namespace, and {release} only stands by, also for what {other} does not "
        "watch. Install it in a namespace of its own."
    )


def left_alone(holder: str, mine: str) -> str:
    """What an Event says of a service that another installation has."""
    return (
        f"The operator in {holder} looks after this service, so the one in {mine}, which watches this namespace too, "
        "leaves it alone. Uninstall one of them, or part what they watch (watchNamespaces)."
    )
