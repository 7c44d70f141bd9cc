"""Passing a request on: a place at a replica, another one while nothing was sent, and what is said without one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from llmservice_gateway.answers import Answers, passed_on, told
from llmservice_gateway.bodies import Bodies, Body
from llmservice_gateway.clients import Asking
from llmservice_gateway.engine import Connection, Head
from llmservice_gateway.errors import answer_timeout, gateway_draining, not_ready, quarantined, replica_lost
from llmservice_gateway.fair import Client
from llmservice_gateway.journal import BROKEN, ENTRY, Entry
from llmservice_gateway.naming import Asked
from llmservice_gateway.passing import Plain
from llmservice_gateway.relay import Kept, Passed, broken
from llmservice_gateway.reply import Reply, reply_to
from llmservice_gateway.room import Place, Ticket
from llmservice_gateway.rooms import Rooms
from llmservice_gateway.routing import Table
from llmservice_gateway.sizes import usage_in, usage_of
from llmservice_gateway.speech import Speech
from llmservice_gateway.suspects import DEATHS, Suspects, Turns, digest_of
from llmservice_gateway.upstream import IDLE_SECONDS, DiedError, Engines, NotReachedError, ReplicaError, first_sign
from llmservice_gateway.waiting import AnswerTimeoutError, Patience
from llmservice_runtime.wire.errors import MAX_BODY_BYTES, ApiError
from llmservice_runtime.wire.priority import BATCH, HEADER

REFUSED = frozenset({429, 502, 503, 504})
"""The request was not admitted; another replica may take it. Not 500: a request that breaks one is given no second."""
PASSED_TO_REPLICA = ("Content-Type", "Accept", "traceparent", "tracestate")


WHOLE_SECONDS = 280.0
"""Clients give up on an answer that does not begin within 300 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request: seconds and bytes."""

    connect_seconds: float = 2.0
    idle_seconds: float = 120.0
    """A replica that sends nothing and answers nothing for so long is lost, and so is a stream between two reads.
    Longer than a supervisor takes to end a wedged engine; a service may have more (Backend.silent_seconds)."""
    answer_seconds: float | None = None
    """Until a stream begins or a whole answer is there, the replica's queue included. None = as planned.py has it."""
    hold_seconds: float = 600.0
    """A stream waits so long for a replica that is ready and has room; other answers at most WHOLE_SECONDS."""
    beat_seconds: float = 10.0
    """Who waits for a stream gets a comment so often; until the first one the status is open."""
    held_bytes: int = 256 << 20
    """The bodies of all requests that no replica has begun to answer."""
    body_bytes: int = MAX_BODY_BYTES
    keep_seconds: float = IDLE_SECONDS
    """An idle connection to an engine is used again for so long: less than any engine keeps it open."""


@dataclass(slots=True)
class _Asking:
    """One request to one service, as often as it is passed on. `path` is the replica's."""

    request: Asking
    reply: Reply
    path: str
    body: Body
    ticket: Ticket
    entry: Entry
    digest: bytes
    """Told from its body, which is dropped before the answer ends."""

    @property
    def service(self) -> str:
        return self.ticket.service

    def headers(self) -> dict[str, str]:
        """What its replica is told."""
        passed, given = {"X-Request-Id": self.entry.request_id, "Accept-Encoding": "identity"}, self.request.headers
        for key in PASSED_TO_REPLICA:
            if key in given:
                passed[key] = given[key]
        if self.entry.batch:
            passed[HEADER] = BATCH
        return passed

    def answered(self, now: float) -> None:
        """It is not sent again: its body makes room for others'."""
        self.entry.first = now
        self.body.drop()


@dataclass(frozen=True, slots=True)
class _Begun:
    """An answer of which the first bytes are there (of one that is no stream: all)."""

    engine: Connection
    head: Head
    first: bytes
    idle_seconds: float


async def _alone(_: bytes) -> None:
    """There are no other gateways."""


class Proxy:
    """The data path. `publish` swaps the table; requests that run keep their connection whatever the table says."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.rooms = Rooms()
        self.bodies = Bodies(limits.held_bytes, limits.body_bytes)
        self._engines = Engines(limits.connect_seconds, limits.keep_seconds)
        self._answers = Answers()
        self._kept = Kept()
        self.suspects = Suspects()
        self.heed: Callable[[bytes], Awaitable[None]] = _alone
        """Awaited before a request, by its digest, that a replica died with is given to another one: until other
        gateways have said what they know of it."""
        self._turns = Turns()

    @property
    def table(self) -> Table:
        """What is routed by."""
        return self.rooms.table

    def publish(self, table: Table) -> None:
        """Route by `table` from now on."""
        self.rooms.publish(table)

    @property
    def draining(self) -> bool:
        """Nothing new is taken, and nothing waits any more."""
        return self.rooms.draining

    def drain(self) -> None:
        """Refuse what waits and what comes; what runs goes on."""
        self.rooms.drain()

    @property
    def running(self) -> int:
        """Requests being answered."""
        return self.rooms.running

    def in_flight(self, replica: str) -> int:
        """Requests that a replica answers now."""
        return self.rooms.in_flight(replica)

    async def wait_idle(self) -> None:
        """Until no request runs or waits."""
        await self.rooms.wait_idle()

    async def open(self) -> None:
        """Inside the event loop, before the first request."""
        await self._engines.open()

    async def close(self) -> None:
        """After the last request."""
        await self._engines.close()

    async def answer(
        self,
        request: Asking,
        name: str,
        path: str,
        body: Body,
        asked: Asked,
        who: Callable[[], Client],
        speech: Speech | None = None,
    ) -> web.StreamResponse:
        """Answer with what a replica of service `name` (full) says to `body` at `path`. ApiError when none can.

        Clients (`who`) take turns. The request's entry in the journal is filled. `speech` tells the answer in another
        protocol.
        """
        entry = request[ENTRY]
        entry.streams, entry.body_bytes = asked.streams, len(body.data)
        reply = reply_to(request, speech or Plain(self._kept, strips=bool(asked.stream_options)))
        hold = self.limits.hold_seconds if asked.streams else min(self.limits.hold_seconds, WHOLE_SECONDS)
        ticket = Ticket(
            service=name,
            who=who,
            asked=asked,
            deadline=asyncio.get_running_loop().time() + hold,
            beat_seconds=self.limits.beat_seconds if asked.streams else math.inf,
            beat=reply.comment,
            batch=entry.batch,
        )
        self.rooms.arrived(name, asked)
        if asked.stream_options:
            body.put("stream_options", asked.stream_options)
        try:
            digest = digest_of(name, path, body.data)
            return await self._answer(_Asking(request, reply, path, body, ticket, entry, digest))
        except ApiError as error:
            if not reply.begun:
                raise
            entry.reason = error.code
            return await reply.fail(error)

    async def _answer(self, asking: _Asking) -> web.StreamResponse:
        name, ticket = asking.service, asking.ticket
        again = lost = False
        while True:
            if self._deaths(asking) >= DEATHS:
                raise quarantined(name)
            place = await self._place(asking, again=again)
            try:
                begun = await self._begun(asking, place)
                if begun is not None:
                    if not self._amended(asking, place, begun):
                        return await self._finish(asking, place, begun)
                    again = True
                    continue
            except ReplicaError as error:
                if isinstance(error, DiedError):
                    self._remember(asking, place)
                if isinstance(error, NotReachedError):
                    self.rooms.reach.failed(place.replica.name, asyncio.get_running_loop().time())
                else:
                    if lost:
                        raise self._lost(asking, place) from error
                    lost = True
            finally:
                self.rooms.leave(place)
            again = True
            ticket.avoid.add(place.replica.name)
            asking.entry.retries += 1

    async def _place(self, asking: _Asking, *, again: bool) -> Place:
        loop, entry = asyncio.get_running_loop(), asking.entry
        began = loop.time()
        try:
            place = await self.rooms.place(asking.ticket, again=again)
            entry.replica = place.replica.name
            entry.guessed_tokens = place.given.prompt if asking.ticket.asked.sequences else 0
            return place
        finally:
            entry.queued = True
            entry.queue_seconds += loop.time() - began

    def _lost(self, asking: _Asking, place: Place) -> ApiError:
        """Why a request lost its replicas: one that was told to end is no accident."""
        now = self.table.backends.get(asking.service)
        if self._deaths(asking) >= DEATHS:
            return quarantined(asking.service)
        if self.draining:
            return gateway_draining()
        return replica_lost(place.backend) if now is None or now.replicas else not_ready(now)

    def _deaths(self, asking: _Asking) -> int:
        return 0 if self.suspects.none else self.suspects.deaths(asking.digest, time.monotonic())

    async def _begun(self, asking: _Asking, place: Place) -> _Begun | None:
        """One attempt, as `_begin`. Nothing to wait for before it, unless a replica has died with this request."""
        if self.suspects.none:
            return await self._begin(asking, place)
        self.suspects.forget_old(time.monotonic())
        if not self._deaths(asking):
            return await self._begin(asking, place)
        await self.heed(asking.digest)
        async with self._turns.turn(asking.service):
            if self._deaths(asking) >= DEATHS:
                raise quarantined(asking.service)
            return await self._begin(asking, place)

    def _remember(self, asking: _Asking, place: Place) -> None:
        """A replica broke. Unless it was told to end, this request may be why."""
        now = self.table.backends.get(asking.service)
        if now is not None and not self.draining and place.replica.name in {replica.name for replica in now.replicas}:
            self.suspects.died(asking.digest, time.monotonic(), place.replica.name)

    async def _begin(self, asking: _Asking, place: Place) -> _Begun | None:
        """One attempt, until there is something to send. None = this replica refused and another one should be asked.

        An answer that is no stream is passed on whole or not at all.
        """
        patience = Patience(
            max(self.limits.idle_seconds, place.backend.silent_seconds),
            partial(self._answer_seconds, place),
            partial(self._engines.answers, place.replica),
        )
        opened: list[Connection] = []

        async def first_bytes() -> _Begun | None:
            engine = await self._engines.post(place.replica, asking.path, asking.body.data, asking.headers())
            opened.append(engine)
            if self.rooms.reach.failures:
                self.rooms.reach.reached(place.replica.name)
            head = engine.head
            assert head is not None
            if head.status in REFUSED and self.rooms.others(asking.ticket, {place.replica.name}):
                engine.close()
                return None
            first = await (engine.some() if head.streams else self._answers.read(engine, asking.service))
            return _Begun(engine, head, first, patience.silent_seconds)

        try:
            begun = await first_sign(first_bytes, patience)
            self.rooms.begun(place)
            return begun
        except BaseException as error:
            for engine in opened:  # also when the client leaves in the moment in which the answer begins
                engine.close()
            if isinstance(error, AnswerTimeoutError):
                raise answer_timeout(place.backend, error.seconds) from None
            raise

    def _answer_seconds(self, place: Place) -> float:
        """How long an answer is waited for. Batch work pauses for live requests, however long these come."""
        return math.inf if place.batch else self.limits.answer_seconds or self.rooms.answer_seconds(place)

    def _amended(self, asking: _Asking, place: Place, begun: _Begun) -> bool:
        """Whether the same is asked once more in other words."""
        whole = begun.head.status, begun.head.headers, begun.first
        amended = None if begun.head.streams else asking.reply.speech.amended(whole)
        if amended is None:
            return False
        asking.body.put(*amended)
        self._engines.give_back(begun.engine, place.replica)
        return True

    async def _finish(self, asking: _Asking, place: Place, begun: _Begun) -> web.StreamResponse:
        """The rest of what was begun."""
        loop, entry, head = asyncio.get_running_loop(), asking.entry, begun.head
        asking.answered(loop.time())
        try:
            headers = passed_on(head)
            if not head.streams:
                if head.status == 200:
                    self._learn(asking, usage_of(begun.first))
                return await asking.reply.whole(*told(asking.service, head.status, headers, begun.first))
            await asking.reply.stream(head.status, headers)
            passed = Passed()
            if (error := await self._relayed(asking, begun, passed)) is None:
                return await asking.reply.end(passed.rest)
            entry.reason = BROKEN
            if not isinstance(error, TimeoutError):
                self._remember(asking, place)
            return await asking.reply.fail(broken(asking.service, error, begun.idle_seconds))
        finally:
            self._engines.give_back(begun.engine, place.replica)

    async def _relayed(self, asking: _Asking, begun: _Begun, passed: Passed) -> Exception | None:
        """Why a stream ended before its end; None = it did not. What it took is known also when its client leaves."""
        entry, tell = asking.entry, asking.reply.speech.stream
        try:
            return await tell(begun.engine, begun.first, asking.reply, begun.idle_seconds, passed)
        finally:
            entry.guessed_tokens += passed.chunks
            if passed.last:
                entry.chunks, entry.last = passed.chunks, passed.last
            self._learn(asking, passed.counted or (usage_in(passed.usage) if passed.usage else None))

    def _learn(self, asking: _Asking, usage: tuple[int, int] | None) -> None:
        if usage:
            self.rooms.answered(asking.service, asking.ticket.asked, usage)
            asking.entry.prompt_tokens, asking.entry.answer_tokens = usage
