"""Passing a request on: least-in-flight, one retry while nothing was sent, events untouched, cancel on disconnect."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import aiohttp
from aiohttp import web

from llmservice_gateway.errors import (
    answer_timeout,
    gateway_draining,
    model_not_found,
    not_ready,
    replica_lost,
)
from llmservice_gateway.metrics import GatewayMetrics
from llmservice_gateway.routing import Backend, Replica, Table, UnknownModelError, pick
from llmservice_gateway.waiting import AnswerTimeoutError, Patience
from llmservice_runtime.wire.errors import MAX_BODY_BYTES, ApiError
from llmservice_runtime.wire.sse import error_event

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
"""Another replica may do better. Not 500: a request that breaks one replica is not given a second one."""
PASSED_TO_REPLICA = ("Content-Type", "Accept", "X-Request-Id", "traceparent", "tracestate")
PASSED_TO_CLIENT = (
    "Content-Type", "Cache-Control", "X-Accel-Buffering", "Retry-After", "x-should-retry", "X-Request-Id",
)  # fmt: skip
TWO_LINE_ENDS = (b"\n\n", b"\n\r", b"\r\r")
"""An event ends with an empty line, and a line with LF, CR LF or CR: whichever of them two stand together, one of these
is in it (LF CR is also the middle of CR LF CR LF)."""
EVENT_LIMIT = 8 * 1024 * 1024
"""An unfinished event is kept back up to this many bytes."""


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


T = TypeVar("T")


class ReplicaLostError(Exception):
    """The replica broke and nothing was sent to the client yet."""


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
        self._session: aiohttp.ClientSession | None = None

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
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect_seconds)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            auto_decompress=False,
            skip_auto_headers=("User-Agent",),
        )

    async def close(self) -> None:
        """After the last request."""
        if self._session is not None:
            await self._session.close()

    async def answer(self, request: web.Request, name: str, path: str, body: bytes) -> web.StreamResponse:
        """Answer with what a replica of service `name` (full) says to `body` at `path`. ApiError when none can."""
        avoid: set[str] = set()
        while True:
            backend, replica = self._admit(name, avoid)
            with self._flight(name, replica):
                try:
                    response = await self._ask(request, backend, replica, path, body, retriable=not avoid)
                except ReplicaLostError:
                    response = None
            if response is not None:
                return response
            avoid.add(replica.name)
            if len(avoid) == 2 or pick(backend.replicas, self._in_flight, avoid) is None:
                raise self._lost(backend)
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

    def _lost(self, backend: Backend) -> ApiError:
        """Why a request lost its replicas: one that was told to end is no accident."""
        now = self.table.backends.get(backend.full_name)
        if self.draining:
            return gateway_draining()
        return replica_lost(backend) if now is None or now.replicas else not_ready(now)

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

    async def _ask(
        self, request: web.Request, backend: Backend, replica: Replica, path: str, body: bytes, *, retriable: bool
    ) -> web.StreamResponse | None:
        """One attempt. None = this replica refused and another one should be asked."""
        assert self._session is not None
        headers = {key: request.headers[key] for key in PASSED_TO_REPLICA if key in request.headers}
        headers["Accept-Encoding"] = "identity"
        patience = Patience(
            max(self.limits.idle_seconds, backend.silent_seconds),
            self.limits.answer_seconds,
            partial(self._answers, replica),
        )
        upstream = await self._first_sign(
            self._session.post(replica.url + path, data=body, headers=headers, allow_redirects=False), backend, patience
        )
        try:
            other = pick(backend.replicas, self._in_flight, {replica.name}) if retriable else None
            if upstream.status in RETRIED_STATUSES and other is not None:
                return None
            if upstream.content_type == "text/event-stream":
                first = await self._first_sign(upstream.content.readany(), backend, patience)
                return await self._relay(request, backend, upstream, first, patience.silent_seconds)
            # An answer that is no stream is passed on whole or not at all.
            whole = await self._first_sign(upstream.read(), backend, patience)
            return web.Response(status=upstream.status, body=whole, headers=_client_headers(upstream.headers))
        finally:
            upstream.close() if not upstream.content.at_eof() else upstream.release()

    async def _first_sign(self, what: Awaitable[T], backend: Backend, patience: Patience) -> T:
        """What a replica sends before anything is promised to the client: until then another one can be asked."""
        try:
            return await patience.wait(what)
        except AnswerTimeoutError:
            raise answer_timeout(backend, patience.answer_seconds) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ReplicaLostError(str(error)) from error

    async def _answers(self, replica: Replica, seconds: float) -> bool:
        """Whether a replica answers anything at all; a busy one does, a frozen or unreachable one does not."""
        assert self._session is not None
        try:
            async with asyncio.timeout(seconds), self._session.get(f"{replica.url}/health", allow_redirects=False):
                return True
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _relay(
        self, request: web.Request, backend: Backend, upstream: aiohttp.ClientResponse, chunk: bytes, idle: float
    ) -> web.StreamResponse:
        """Pass events on as they come, each whole; a replica that breaks leaves an error event and no [DONE]."""
        response = web.StreamResponse(status=upstream.status, headers=_client_headers(upstream.headers))
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        rest = b""
        while chunk:
            data, rest = whole_events(rest + chunk if rest else chunk)
            if data:
                await response.write(data)
            try:
                async with asyncio.timeout_at(loop.time() + idle):
                    chunk = await upstream.content.readany()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._metrics.broken.labels(backend.full_name).inc()
                await response.write(_broken_event(backend, error, idle))
                response.force_close()
                rest = b""
                break
        if rest:
            await response.write(rest)
        await response.write_eof()
        return response


def whole_events(data: bytes) -> tuple[bytes, bytes]:
    """(what ends with an event's end, the unfinished rest). The rest is kept back so that an error event can follow."""
    if data.endswith(b"\n\n"):
        return data, b""
    end = max(data.rfind(two) for two in TWO_LINE_ENDS) + 2
    if end < 2:
        end = len(data) if len(data) > EVENT_LIMIT else 0
    # Line ends begin no event: the last LF of CR LF CR LF may come alone, and its reader waits for it.
    end = len(data) - len(data[end:].lstrip(b"\r\n"))
    return data[:end], data[end:]


def _client_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: headers[key] for key in PASSED_TO_CLIENT if key in headers}


def _broken_event(backend: Backend, error: Exception, idle: float) -> bytes:
    silent = isinstance(error, TimeoutError)
    what = f"sent nothing for {idle:.0f} s" if silent else "ended in the middle of this answer"
    message = f"The replica of {backend.full_name} {what}. What came so far is incomplete; ask again."
    return error_event(message, "server_error", "replica_lost")
