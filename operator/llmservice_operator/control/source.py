"""kopf as a source of events, and nothing else.

It runs in a thread with a loop of its own, since it takes over whatever loop it is given: it installs signal handlers,
and when it ends it cancels every task that began after it. It is told to write nothing (no handlers that would add
annotations or a finalizer, no posting, no peering) and never to give up on an API error; what it still treats as
fatal, an error inside a watch stream, ends the thread, and a new one is started.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import kopf

from llmservice_kube.kinds import Json, Kind
from llmservice_kube.login import Access
from llmservice_operator.control.thread import in_a_thread

Sink = Callable[[Kind, str | None, Json], None]
"""Gets (kind, type, object); the type is None for objects that were there when the watch began."""

LONGEST_PAUSE = 30.0
"""Seconds between two tries of a request that keeps failing, and between two lives of the thread."""
PAGE = 20
"""Objects of a first list that are in memory at a time, of each kind. Each may have more than a MiB."""
IDLE_SECONDS = 0.1
"""kopf has a task for each object, which keeps the last event for so long after it."""
GATHER_SECONDS = 0.01
"""Events that come within it are handed on together."""

logger = logging.getLogger(__name__)


class Backoffs(Iterable[float]):
    """1, 2, 4 ... LONGEST_PAUSE seconds with jitter, without end. Not Sized on purpose: kopf then never gives up."""

    def __iter__(self) -> Iterator[float]:
        pause = min(1.0, LONGEST_PAUSE)
        while True:
            yield pause * random.uniform(0.75, 1.0)
            pause = min(LONGEST_PAUSE, 2 * pause)


def settings(selectors: Mapping[Kind, str], listed: Callable[[], None] = lambda: None) -> kopf.OperatorSettings:
    """kopf's settings: read only, patient, bounded in time, and only objects with the labels that are asked for.

    `listed` is called, in kopf's thread, each time that kopf has listed a kind and begins to watch it.
    """
    result = kopf.OperatorSettings()
    result.watching = _Watching(listed)
    result.scanning.disabled = True
    result.peering.standalone = True
    result.posting.enabled = False
    result.networking.request_timeout = 30.0
    result.networking.connect_timeout = 5.0
    result.networking.error_backoffs = Backoffs()
    result.watching.server_timeout = 300
    result.watching.chunk_size = PAGE
    result.queueing.idle_timeout = IDLE_SECONDS
    result.execution.max_workers = 1
    result.process.ultimate_exiting_timeout = None
    result.persistence.diffbase_storage = _NoDiffs()
    result.persistence.progress_storage = _NoProgress()
    for kind, labels in selectors.items():
        if labels:
            result.watching.label_selectors[kind.group, kind.version, kind.plural] = labels
    return result


class _Watching(type(kopf.OperatorSettings().watching)):  # type: ignore[misc]
    """Notices that kopf has listed: it says so to nobody, and of a list without objects there is no event either.

    It asks for the size of a page as a list begins and for the time of a watch as that begins, and each kind has a
    task that does one after the other.
    """

    def __init__(self, listed: Callable[[], None]) -> None:
        self._lists = set[asyncio.Task[Any] | None]()
        self._listed = listed
        super().__init__()

    def __getattribute__(self, name: str) -> Any:
        if name == "chunk_size":
            self._lists.add(_current_task())
        elif name == "server_timeout" and (task := _current_task()) in self._lists:
            self._lists.discard(task)
            self._listed()
        return super().__getattribute__(name)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None  # the settings are being made, outside of any loop


class _NoDiffs(kopf.DiffBaseStorage):
    """What changed since a handler last ran is asked by no handler here: left in, it is half of what kopf costs."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing to keep."""


class _NoProgress(kopf.ProgressStorage):
    """Nor does any handler here have progress to keep."""

    def fetch(self, **_: Any) -> kopf.ProgressRecord | None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing to keep."""

    def purge(self, **_: Any) -> None:
        """Nothing was kept."""

    def touch(self, **_: Any) -> None:
        """Nothing to tell."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class _Complaints(logging.Handler):
    """kopf retries in silence but for its log: its errors are handed on, so that readiness can tell them."""

    def __init__(self, here: asyncio.AbstractEventLoop, complain: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._here = here
        self._complain = complain

    def emit(self, record: logging.LogRecord) -> None:
        if not self._here.is_closed():
            self._here.call_soon_threadsafe(self._complain, record.getMessage())


class _Mailbox:
    """Events on their way from kopf's thread to ours: one wake-up for all that come within GATHER_SECONDS.

    Each wake-up has both threads ask for the interpreter at once, which costs more than an event does.
    """

    def __init__(self, here: asyncio.AbstractEventLoop, sink: Sink) -> None:
        self._here = here
        self._sink = sink
        self._waiting: list[tuple[Kind, str | None, Json]] = []

    def post(self, kind: Kind, event: str | None, obj: Json) -> None:
        """In kopf's thread."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._send)
        self._waiting.append((kind, event, obj))

    def _send(self) -> None:
        """In kopf's thread."""
        batch, self._waiting = self._waiting, []
        if not self._here.is_closed():
            self._here.call_soon_threadsafe(self._deliver, batch)

    def _deliver(self, batch: list[tuple[Kind, str | None, Json]]) -> None:
        for kind, event, obj in batch:
            try:
                self._sink(kind, event, obj)
            except Exception:  # what one event does to its reader is nothing to the others of the batch
                logger.exception("an event of %s %s was lost by a bug", kind, event)


class EventSource:
    """Watches kinds in `namespaces` (all when empty) and hands each event to `sink`, in the loop of `run`.

    `selectors` has the label selector of each kind, empty = all objects. `gap` is called each time that a kind was
    listed anew, in a first life or a later one: what was deleted before that is in no event. `complain` gets what goes
    wrong in the watches, again and again while it does.
    """

    def __init__(
        self,
        access: Access,
        selectors: Mapping[Kind, str],
        sink: Sink,
        namespaces: Sequence[str] = (),
        *,
        gap: Callable[[], None] = lambda: None,
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._access = access
        self._complain = complain
        self._selectors = selectors
        self._sink = sink
        self._gap = gap
        self._namespaces = list(namespaces)
        self.restarts = 0
        """How often kopf ended by itself and was started again."""

    async def run(self) -> None:
        """Watch until cancelled."""
        for pause in Backoffs():
            try:
                await self._one_life()
            except Exception as error:
                said = f"the watches ended: {error}"
            else:
                said = "the watches ended without an error"
            logger.error("%s", said)
            self._complain(said)
            self.restarts += 1
            await asyncio.sleep(pause)

    async def _one_life(self) -> None:
        """One thread with kopf in it; returns or raises as kopf does, ends it when cancelled."""
        here = asyncio.get_running_loop()
        registry, complaints = self._registry(here), _Complaints(here, self._complain)

        def listed() -> None:
            if not here.is_closed():
                here.call_soon_threadsafe(self._gap)

        logging.getLogger("kopf").addHandler(complaints)
        try:
            async with in_a_thread("kopf", lambda: self._kopf(registry, listed)) as ended:
                await asyncio.shield(ended)
        finally:
            logging.getLogger("kopf").removeHandler(complaints)

    async def _kopf(self, registry: kopf.OperatorRegistry, listed: Callable[[], None]) -> None:
        """In kopf's thread. It is ended by cancelling this very task: a stop flag would leave it hanging."""
        await kopf.operator(
            registry=registry,
            settings=settings(self._selectors, listed),
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            # kopf's default asks for the user's name, which a container's user id need not have. No peer is told it.
            identity=cast(Any, "llmservice-operator"),
        )

    def _registry(self, here: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def _login(**_: Any) -> kopf.AiohttpSession:
            return await self._access.for_kopf()

        mailbox = _Mailbox(here, self._sink)
        for kind in self._selectors:
            self._listen(registry, kind, mailbox)
        return registry

    def _listen(self, registry: kopf.OperatorRegistry, kind: Kind, mailbox: _Mailbox) -> None:
        @kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)
        async def _event(event: Any, **_: Any) -> None:
            mailbox.post(kind, event["type"], dict(event["object"]))
