"""Requests that were there when a replica died: which one to try again, and which one no more. `now` is monotonic.

One of those that a replica had may have ended it. Each is tried again once, one after the other, so that a replica
that dies next had one of them alone; whoever was there both times is refused for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

DEATHS = 2
"""Replicas that a request may take part in ending."""
SECONDS = 600.0
"""For so long it is remembered, so that what has changed meanwhile is given a chance."""
TURN_SECONDS = 5.0
"""What ends an engine does so when it is read, or in its first steps: after so long the next one has its turn."""
MOST = 10_000
"""Requests that are remembered; the oldest are forgotten."""
MOST_GATEWAYS = 32
"""Others of which it is remembered what they told."""
SAME_SECONDS = 10.0
"""A replica that died for two gateways within so long died once: none is back so soon."""


class _Death(NamedTuple):
    replica: str
    at: float


class Suspects:
    """Counts by digest, which is of one request to one service. Nothing else of a request is kept.

    `heard` has what other gateways tell. A replica's death at about the same time is one, whoever tells it.
    """

    def __init__(self) -> None:
        self.told: Callable[[], None] = lambda: None
        """Called when a replica died here."""
        self.news = asyncio.Event()
        """Set when another gateway told something new; whoever waits for it clears it."""
        self._own: OrderedDict[bytes, tuple[_Death, ...]] = OrderedDict()
        self._heard: OrderedDict[str, dict[bytes, tuple[_Death, ...]]] = OrderedDict()

    def died(self, digest: bytes, now: float, replica: str = "") -> None:
        """A replica died that had this request."""
        self._own[digest] = (*self._own.get(digest, ()), _Death(replica, now))[-DEATHS:]
        self._own.move_to_end(digest)
        while len(self._own) > MOST:
            self._own.popitem(last=False)
        self.told()

    def heard(self, gateway: str, deaths: Mapping[bytes, Sequence[str]], now: float) -> None:
        """What another gateway tells now: digest -> replicas. What one told that is gone is kept as long."""
        before = self._heard.get(gateway, {})
        if {digest: tuple(one.replica for one in known) for digest, known in before.items()} == {
            digest: tuple(replicas) for digest, replicas in deaths.items()
        }:
            return
        now_told = {digest: _since(before.get(digest, ()), replicas, now) for digest, replicas in deaths.items()}
        self._heard[gateway] = now_told
        self._heard.move_to_end(gateway)
        while len(self._heard) > MOST_GATEWAYS:
            self._heard.popitem(last=False)
        self.news.set()

    def deaths(self, digest: bytes, now: float) -> int:
        """Replicas that died with this request in the last SECONDS."""
        return len(self._all(digest, now))

    def latest(self, digest: bytes, now: float) -> tuple[float, bool] | None:
        """When this request's last death was known, and whether it was here; None = it had none."""
        found = self._all(digest, now)
        if not found:
            return None
        last = max(found, key=lambda death: death.at)
        return last.at, last in self._own.get(digest, ())

    def to_tell(self, now: float) -> dict[bytes, tuple[str, ...]]:
        """Those that died here, the latest last."""
        self.forget_old(now)
        return {digest: tuple(death.replica for death in known) for digest, known in self._own.items()}

    @property
    def none(self) -> bool:
        """Nothing died lately: no request needs a digest."""
        return not self._own and not self._heard

    def forget_old(self, now: float) -> None:
        """Drop what is over."""
        while self._own:
            digest, known = next(iter(self._own.items()))
            if now - known[-1].at < SECONDS:
                break
            del self._own[digest]
        for gateway, told in list(self._heard.items()):
            if all(now - known[-1].at >= SECONDS for known in told.values()):
                del self._heard[gateway]

    def _all(self, digest: bytes, now: float) -> list[_Death]:
        found = list[_Death]()
        for told in (self._own, *self._heard.values()):
            of_others = tuple(found)
            for death in told.get(digest, ()):
                same = any(death.replica == one.replica and abs(death.at - one.at) < SAME_SECONDS for one in of_others)
                if now - death.at < SECONDS and not same:
                    found.append(death)
        return found


def _since(known: Sequence[_Death], replicas: Sequence[str], now: float) -> tuple[_Death, ...]:
    """What was told before keeps its time."""
    same = [one.replica for one in known] == list(replicas[: len(known)])
    return (
        (*known, *(_Death(one, now) for one in replicas[len(known) :]))
        if same
        else tuple(_Death(one, now) for one in replicas)
    )


def digest_of(service: str, path: str, body: bytes) -> bytes:
    """16 bytes for one request to one service."""
    digest = hashlib.blake2b(f"{service} {path} ".encode(), digest_size=16)
    digest.update(body)
    return digest.digest()


class Turns:
    """Suspects of one service go one after the other: each until it is answered, or for TURN_SECONDS."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def turn(self, service: str) -> AsyncIterator[None]:
        """Wait for one's turn, and have it."""
        lock = self._locks.setdefault(service, asyncio.Lock())
        await lock.acquire()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                lock.release()

        timer = asyncio.get_running_loop().call_later(TURN_SECONDS, release)
        try:
            yield
        finally:
            timer.cancel()
            release()
