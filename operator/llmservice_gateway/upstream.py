"""Connections to engines: kept for a while, closed before the engine closes them, and told apart when one breaks."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp

from llmservice_gateway.engine import Connection
from llmservice_gateway.routing import Replica
from llmservice_gateway.waiting import Patience

T = TypeVar("T")

IDLE_SECONDS = 2.0
"""An idle connection is closed after so long, and at most a quarter more. vLLM's server closes one after 5 s."""
SWEEPS = 4
"""Looks for idle connections in that time."""


class ReplicaError(Exception):
    """One attempt failed, and nothing was sent to the client yet."""


class NotReachedError(ReplicaError):
    """No connection came about: the request was never given to the replica."""


class DiedError(ReplicaError):
    """The replica had the request, and broke before it answered."""


class SilentError(ReplicaError):
    """The replica had the request, and neither that nor anything else is answered."""


class Engines:
    """Connections to all engines. `open` inside the event loop, `close` after the last request."""

    def __init__(self, connect_seconds: float, idle_seconds: float = IDLE_SECONDS) -> None:
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._idle: defaultdict[str, list[Connection]] = defaultdict(list)
        self._sweeps: asyncio.TimerHandle | None = None
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Inside the event loop, before the first request."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds)
        self._session = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        )

    async def close(self) -> None:
        """After the last request."""
        if self._sweeps is not None:
            self._sweeps.cancel()
            self._sweeps = None
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()
        if self._session is not None:
            await self._session.close()

    async def post(self, replica: Replica, path: str, body: bytes, headers: Mapping[str, str]) -> Connection:
        """A connection with the beginning of the answer; `give_back` it. NotReachedError or DiedError.

        An engine may close a connection in the moment in which it is used again. Nothing was lost then: the request is
        sent once more to the same replica, over a new one.
        """
        head = request_head(replica, path, len(body), headers)
        connection = self._kept(replica)
        if connection is None:
            return await _asked(await self._connected(replica), head, body)
        try:
            return await _asked(connection, head, body)
        except DiedError as error:
            try:
                return await _asked(await self._connected(replica), head, body)
            except NotReachedError:  # it did not close a connection; it ended
                raise error from None

    def give_back(self, connection: Connection, replica: Replica) -> None:
        """It is kept when its answer is whole; else it closes, which ends what the engine does."""
        if not connection.reusable:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[replica.url].append(connection)
        if self._sweeps is None:  # one timer for all: each of its own would wake the gateway once more for a request
            self._sweeps = loop.call_later(self._idle_seconds / SWEEPS, self._sweep)

    async def answers(self, replica: Replica, seconds: float) -> bool:
        """Whether a replica answers anything at all; a busy one does, a frozen or unreachable one does not."""
        assert self._session is not None
        try:
            async with asyncio.timeout(seconds), self._session.get(f"{replica.url}/health", allow_redirects=False):
                return True
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def _kept(self, replica: Replica) -> Connection | None:
        kept = self._idle.get(replica.url, [])
        while kept:
            connection = kept.pop()  # the one that was used last
            if connection.reusable:
                return connection
            connection.close()
        self._idle.pop(replica.url, None)
        return None

    def _sweep(self) -> None:
        """Close what has been idle for long enough: of each engine's the first ones, as the last one is used first."""
        loop = asyncio.get_running_loop()
        before = loop.time() - self._idle_seconds
        for url, kept in list(self._idle.items()):
            while kept and kept[0].idle_since <= before:
                kept.pop(0).close()
            if not kept:
                del self._idle[url]
        self._sweeps = loop.call_later(self._idle_seconds / SWEEPS, self._sweep) if self._idle else None

    async def _connected(self, replica: Replica) -> Connection:
        parts = urlsplit(replica.url)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(Connection, parts.hostname or "", parts.port or 80)
        except (OSError, TimeoutError) as error:
            raise NotReachedError(str(error)) from error
        return connection


async def _asked(connection: Connection, head: bytes, body: bytes) -> Connection:
    try:
        await connection.ask(head, body)
    except OSError as error:
        raise DiedError(str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def request_head(replica: Replica, path: str, length: int, headers: Mapping[str, str]) -> bytes:
    """Everything before the body. What could end a line is no header."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {urlsplit(replica.url).netloc}", f"Content-Length: {length}"]
    for name, value in headers.items():
        if value.isprintable():
            lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def first_sign(what: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """What a replica sends before anything is promised to the client: until then another one can be asked."""
    try:
        return await patience.wait(what())
    except TimeoutError as error:
        raise SilentError from error
    except OSError as error:
        raise DiedError(str(error)) from error
