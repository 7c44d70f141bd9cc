"""Connections to engines: kept for a while, closed before the engine closes them, and told apart when one breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeVar

import aiohttp

from llmservice_gateway.routing import Replica
from llmservice_gateway.waiting import Patience

T = TypeVar("T")

IDLE_SECONDS = 2.0
"""An idle connection is reused for so long, and closed within twice that. vLLM's server closes one after 5 s."""


class ReplicaError(Exception):
    """One attempt failed, and nothing was sent to the client yet."""


class NotReachedError(ReplicaError):
    """No connection came about: the request was never given to the replica."""


class DiedError(ReplicaError):
    """The replica had the request, and broke before it answered."""


class SilentError(ReplicaError):
    """The replica had the request, and neither that nor anything else is answered."""


@dataclass(slots=True)
class _Trace:
    """What aiohttp tells of one request's connection."""

    reused: bool = False


class Engines:
    """A session for all engines. `open` inside the event loop, `close` after the last request."""

    def __init__(self, connect_seconds: float, idle_seconds: float = IDLE_SECONDS) -> None:
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Inside the event loop, before the first request."""
        traced = aiohttp.TraceConfig()
        traced.on_connection_reuseconn.append(_reused)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self._idle_seconds),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
            auto_decompress=False,
            skip_auto_headers=("User-Agent",),
            trace_configs=[traced],
        )

    async def close(self) -> None:
        """After the last request."""
        if self._session is not None:
            await self._session.close()

    async def post(
        self, replica: Replica, path: str, body: bytes, headers: Mapping[str, str], patience: Patience
    ) -> aiohttp.ClientResponse:
        """The beginning of a replica's answer. ReplicaError of one of its kinds, or AnswerTimeoutError.

        An engine may close a connection in the moment in which it is used again. Nothing was lost then: the request is
        sent once more to the same replica, over another one.
        """
        trace = _Trace()
        try:
            return await first_sign(lambda: self._post(replica, path, body, headers, trace), patience)
        except DiedError as error:
            if not trace.reused:
                raise
            try:
                return await first_sign(lambda: self._post(replica, path, body, headers, trace), patience)
            except NotReachedError:  # it did not close a connection; it ended
                raise error from None

    async def _post(
        self, replica: Replica, path: str, body: bytes, headers: Mapping[str, str], trace: _Trace
    ) -> aiohttp.ClientResponse:
        assert self._session is not None
        trace.reused = False
        return await self._session.post(
            replica.url + path, data=body, headers=headers, allow_redirects=False, trace_request_ctx=trace
        )

    async def answers(self, replica: Replica, seconds: float) -> bool:
        """Whether a replica answers anything at all; a busy one does, a frozen or unreachable one does not."""
        assert self._session is not None
        try:
            async with asyncio.timeout(seconds), self._session.get(f"{replica.url}/health", allow_redirects=False):
                return True
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


async def first_sign(what: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """What a replica sends before anything is promised to the client: until then another one can be asked."""
    try:
        return await patience.wait(what())
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NotReachedError(str(error)) from error
    except TimeoutError as error:
        raise SilentError from error
    except (aiohttp.ClientError, OSError) as error:
        raise DiedError(str(error)) from error


async def _reused(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceConnectionReuseconnParams
) -> None:
    if isinstance(context.trace_request_ctx, _Trace):
        context.trace_request_ctx.reused = True
