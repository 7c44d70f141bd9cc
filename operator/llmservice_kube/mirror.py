"""The cluster as one cache shows it: a watch brings news, lists correct it, and both are one sequence.

Whoever watches hands its events to `event` and says `gap` each time that it has listed anew: what was deleted before
that list is in no event. The list that finds it is read after, so it is newer. What a list, a watch and own writes say
of one object is put in order by the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence

from llmservice_kube.cache import Cache, Key, Left, Rare
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import Json, Kind
from llmservice_kube.unreadable import Read, StandIn, as_it_is, left_out

RELIST_SECONDS = 600.0
"""Between two relists that nothing asked for."""
RETRY_SECONDS = 5.0
"""Between two tries of a relist that failed; twice as long each time, up to LONGEST_RETRY."""
LONGEST_RETRY = 60.0
GAP_SECONDS = 2.0
"""From the last list of the watch's, begun anew after a gap, to the relist that finds what was lost in the gap."""
PAGE = 100
"""Objects of a relist that are in memory at a time."""
Changed = Callable[[Collection[Key]], None]
"""Gets the services for which a list told something new."""
Done = Callable[[ApiError | None], None]
"""Gets what became of a relist: None when everything was read."""


class Mirror:
    """Keeps `cache` as the cluster is. `kinds` has the label selector of each; `namespaces` empty = all.

    `rare` kinds are listed only in the namespaces that it names.
    """

    def __init__(
        self,
        client: Client,
        kinds: Mapping[Kind, str],
        owner_label: str,
        namespaces: Sequence[str] = (),
        *,
        changed: Changed,
        left: Left = lambda kind, uid: None,
        read: Read = as_it_is,
        stand_in: StandIn = left_out,
        done: Done = lambda error: None,
        seconds: float = RELIST_SECONDS,
        rare: Rare | None = None,
    ) -> None:
        self.cache = Cache(kinds, owner_label, namespaces, left, read, stand_in, rare)
        self._rare = rare or {}
        self._client = client
        self._kinds = kinds
        self._namespaces: Sequence[str | None] = tuple(namespaces) or (None,)
        self._changed = changed
        self._done = done
        self._seconds = seconds
        self._gap = asyncio.Event()
        self._one_list = asyncio.Lock()

    def event(self, kind: Kind, event_type: str | None, obj: Json) -> Key | None:
        """What a watch brought; the service to look at, or None when it was no news."""
        return self.cache.event(kind, event_type, obj)

    def gap(self) -> None:
        """The watch has listed anew, and says nothing of what went away before."""
        self._gap.set()

    async def run(self) -> None:
        """Relist now, then after each gap and now and then, until cancelled."""
        retry = RETRY_SECONDS
        while True:
            self._gap.clear()
            try:
                await self.relist()
            except ApiError as error:
                self._done(error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(retry):
                        await self._gap.wait()  # the watch lists again: what failed may be over
                retry = min(LONGEST_RETRY, 2 * retry)
                continue
            retry = RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds * random.uniform(0.8, 1.2)):
                    await self._gap.wait()
                    while self._gap.is_set():  # the watches of other kinds still list
                        self._gap.clear()
                        await asyncio.sleep(GAP_SECONDS)

    async def relist(self) -> None:
        """Read everything anew. Raises ApiError when something cannot be read; what can be, is."""
        error: ApiError | None = None
        async with self._one_list:
            for kind in self._kinds:
                for namespace in self._rare.get(kind, self._namespaces):
                    try:
                        await self._relist(kind, namespace)
                    except ApiError as found:
                        if not (found.missing or found.refused):
                            raise  # an outage, which the others would meet as well
                        error = error or found
            if error is not None:
                raise error
            self._done(None)

    async def _relist(self, kind: Kind, namespace: str | None) -> None:
        lists = []

        def begin(resource_version: str) -> Callable[[Json], None]:
            lists.append(self.cache.listing(kind, namespace, resource_version))
            return take

        def take(obj: Json) -> None:
            if (key := lists[-1].take(obj)) is not None:
                self._changed((key,))

        await self._client.list(kind, namespace, labels=self._kinds[kind], limit=PAGE, begin=begin)
        self._changed(lists[-1].end())
