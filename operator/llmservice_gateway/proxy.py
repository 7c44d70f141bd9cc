"""Passing a request on: which replica is asked, which one next while nothing was sent, what is said when none is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Set
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import aiohttp
from aiohttp import web

from llmservice_gateway.errors import (
    answer_timeout,
    gateway_draining,
    model_not_found,
    not_ready,
    quarantined,
    replica_lost,
)
from llmservice_gateway.metrics import GatewayMetrics
from llmservice_gateway.relay import broken_event, relay
from llmservice_gateway.routing import Backend, Replica, Table, UnknownModelError, pick
from llmservice_gateway.suspects import DEATHS, Suspects, Turns, digest_of
from llmservice_gateway.upstream import IDLE_SECONDS, DiedError, Engines, NotReachedError, ReplicaError, first_sign
from llmservice_gateway.waiting import AnswerTimeoutError, Patience
from llmservice_runtime.wire.errors import MAX_BODY_BYTES, ApiError

REFUSED = frozenset({429, 502, 503, 504})
"""The request was not admitted; another replica may take it. Not 500: a request that breaks one is given no second."""
PASSED_TO_REPLICA = ("Content-Type", "Accept", "X-Request-Id", "traceparent", "tracestate")
PASSED_TO_CLIENT = (
    "Content-Type", "Cache-Control", "X-Accel-Buffering", "Retry-After", "x-should-retry", "X-Request-Id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request: seconds and bytes."""

    connect_seconds: float = 2.0
    idle_seconds: float = 120.0
    """A replica that sends nothing and answers nothing for so long is lost, and so is a stream between two reads.
    Longer than a supervisor takes to end a wedged engine; a service may have more (Backend.silent_seconds)."""
    answer_seconds: float = 3600.0
    """Until a stream begins or a whole answer is there, the replica's queue included."""
    body_bytes: int = MAX_BODY_BYTES
    keep_seconds: float = IDLE_SECONDS
    """An idle connection to an engine is used again for so long: less than any engine keeps it open."""


@dataclass(frozen=True)
class _Asking:
    """One request to one service, as often as it is passed on. `path` is the replica's."""

    request: web.Request
    service: str
    path: str
    body: bytes

    @cached_property
    def digest(self) -> bytes:
        return digest_of(self.service, self.path, self.body)

    @cached_property
    def headers(self) -> dict[str, str]:
        given = self.request.headers
        return {key: given[key] for key in PASSED_TO_REPLICA if key in given} | {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class _Begun:
    """An answer of which the first bytes are there (of one that is no stream: all)."""

    upstream: aiohttp.ClientResponse
    first: bytes
    idle_seconds: float


class Proxy:
    """The data path. `publish` swaps the table; requests that run keep their connection whatever the table says."""

    def __init__(self, limits: Limits, metrics: GatewayMetrics) -> None:
        self.table = Table()
        self.draining = False
        self.limits = limits
        self._metrics = metrics
        self._in_flight: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._engines = Engines(limits.connect_seconds, limits.keep_seconds)
        self._suspects = Suspects()
        self._turns = Turns()

    def publish(self, table: Table) -> None:
        """Route by `table` from now on."""
        self.table = table

    @property
    def running(self) -> int:
        """Requests being answered."""
        return self._in_flight.total()

    def in_flight(self, replica: str) -> int:
        """Requests that a replica answers now."""
        return self._in_flight[replica]

    async def wait_idle(self) -> None:
        """Until no request runs."""
        await self._idle.wait()

    async def open(self) -> None:
        """Inside the event loop, before the first request."""
        await self._engines.open()

    async def close(self) -> None:
        """After the last request."""
        await self._engines.close()

    async def answer(self, request: web.Request, name: str, path: str, body: bytes) -> web.StreamResponse:
        """Answer with what a replica of service `name` (full) says to `body` at `path`. ApiError when none can."""
        asking = _Asking(request, name, path, body)
        avoid: set[str] = set()
        lost = False
        while True:
            backend, replica = self._admit(name, avoid)
            with self._flight(name, replica):
                try:
                    async with self._turn(asking, backend):
                        begun = await self._begin(asking, backend, replica, avoid)
                except ReplicaError as error:
                    if isinstance(error, DiedError):
                        self._remember(asking, backend, replica)
                    again = isinstance(error, NotReachedError) or not lost
                    lost = lost or not isinstance(error, NotReachedError)
                else:
                    if begun is not None:
                        return await self._finish(asking, backend, replica, begun)
                    again = True  # it was refused
            avoid.add(replica.name)
            if not again or self._another(name, avoid) is None:
                raise self._lost(asking, backend)
            self._metrics.retries.labels(name).inc()

    def _admit(self, name: str, avoid: set[str]) -> tuple[Backend, Replica]:
        """A replica for one attempt, at once or never. Whoever wants to hold requests holds them here."""
        if self.draining:
            raise gateway_draining()
        try:
            backend = self.table.resolve(name)
        except UnknownModelError:  # removed since the request came
            raise model_not_found(name, self.table) from None
        replica = pick(backend.replicas, self._in_flight, avoid)
        if replica is None:
            raise replica_lost(backend) if backend.replicas else not_ready(backend)
        return backend, replica

    def _another(self, name: str, avoid: Set[str]) -> Replica | None:
        """One that is ready by now."""
        backend = self.table.backends.get(name)
        return None if backend is None else pick(backend.replicas, self._in_flight, avoid)

    def _lost(self, asking: _Asking, backend: Backend) -> ApiError:
        """Why a request lost its replicas: one that was told to end is no accident."""
        now = self.table.backends.get(backend.full_name)
        if self._deaths(asking) >= DEATHS:
            return quarantined(backend)
        if self.draining:
            return gateway_draining()
        return replica_lost(backend) if now is None or now.replicas else not_ready(now)

    def _deaths(self, asking: _Asking) -> int:
        return 0 if self._suspects.none else self._suspects.deaths(asking.digest, time.monotonic())

    @asynccontextmanager
    async def _turn(self, asking: _Asking, backend: Backend) -> AsyncIterator[None]:
        """Nothing to wait for, unless a replica has died with this request."""
        self._suspects.forget_old(time.monotonic())
        if not self._deaths(asking):
            yield
            return
        async with self._turns.turn(asking.service):
            if self._deaths(asking) >= DEATHS:
                raise quarantined(backend)
            yield

    def _remember(self, asking: _Asking, backend: Backend, replica: Replica) -> None:
        """A replica broke. Unless it was told to end, this request may be why."""
        now = self.table.backends.get(backend.full_name)
        if now is not None and replica in now.replicas and not self.draining:
            self._suspects.died(asking.digest, time.monotonic())

    @contextmanager
    def _flight(self, name: str, replica: Replica) -> Iterator[None]:
        self._in_flight[replica.name] += 1
        self._idle.clear()
        try:
            with self._metrics.in_flight.labels(name).track_inprogress():
                yield
        finally:
            self._in_flight[replica.name] -= 1
            if not self._in_flight[replica.name]:
                del self._in_flight[replica.name]
            if not self._in_flight:
                self._idle.set()

    async def _begin(self, asking: _Asking, backend: Backend, replica: Replica, avoid: Set[str]) -> _Begun | None:
        """One attempt, until there is something to send. None = this replica refused and another one should be asked.

        An answer that is no stream is passed on whole or not at all.
        """
        patience = Patience(
            max(self.limits.idle_seconds, backend.silent_seconds),
            self.limits.answer_seconds,
            partial(self._engines.answers, replica),
        )
        try:
            upstream = await self._engines.post(replica, asking.path, asking.body, asking.headers, patience)
            try:
                if upstream.status in REFUSED and self._another(asking.service, avoid | {replica.name}):
                    _end(upstream)
                    return None
                streams = upstream.content_type == "text/event-stream"
                read = upstream.content.readany if streams else upstream.read
                return _Begun(upstream, await first_sign(read, patience), patience.silent_seconds)
            except BaseException:
                _end(upstream)
                raise
        except AnswerTimeoutError:
            raise answer_timeout(backend, patience.answer_seconds) from None

    async def _finish(self, asking: _Asking, backend: Backend, replica: Replica, begun: _Begun) -> web.StreamResponse:
        """The rest of what was begun."""
        upstream = begun.upstream
        try:
            headers = _client_headers(upstream.headers)
            if upstream.content_type != "text/event-stream":
                return web.Response(status=upstream.status, body=begun.first, headers=headers)
            response = web.StreamResponse(status=upstream.status, headers=headers)
            await response.prepare(asking.request)
            broken = await relay(upstream.content, begun.first, response, begun.idle_seconds)
            if broken is not None:
                self._metrics.broken.labels(backend.full_name).inc()
                if not isinstance(broken, TimeoutError):
                    self._remember(asking, backend, replica)
                await response.write(broken_event(backend.full_name, broken, begun.idle_seconds))
            await response.write_eof()
            return response
        finally:
            _end(upstream)


def _end(upstream: aiohttp.ClientResponse) -> None:
    """Its connection is free for another request when the answer is whole; else it closes, which cancels the work."""
    upstream.close() if not upstream.content.at_eof() else upstream.release()


def _client_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: headers[key] for key in PASSED_TO_CLIENT if key in headers}
