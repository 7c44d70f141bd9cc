"""Leadership by a Lease (kubernetes.aio's election): one process writes, the others stand by.

The election measures by the wall clock, so leadership is fenced by a monotonic one as well: a process that was stopped
for a minute finds its fence closed before it can write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, CoordinationV1Api
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from llmservice_operator.kube.errors import LeadershipLost

LEASE_SECONDS = 15
RENEW_SECONDS = 10
RETRY_SECONDS = 2
_REQUEST_SECONDS = 4.0
_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError, ValueError)

logger = logging.getLogger(__name__)


class Leadership:
    """Whether this process leads; `fence` goes before every write."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._renewed: float | None = None

    @property
    def leading(self) -> bool:
        """True while the last renewal is younger than the lease."""
        return self._renewed is not None and self._clock() - self._renewed < LEASE_SECONDS

    def renewed(self, asked_at: float) -> None:
        """The Lease is ours, as of the moment the request for it was sent."""
        self._renewed = asked_at

    def fence(self) -> None:
        """Raises LeadershipLost unless this process surely leads."""
        if not self.leading:
            raise LeadershipLost("the Lease was not renewed in time")

    def now(self) -> float:
        """The fence's clock."""
        return self._clock()


class _Lock(LeaseLock):
    """The library's lock, for which silence is a failure to retry: it knows only errors that are answers."""

    def __init__(self, name: str, namespace: str, identity: str, api: ApiClient, leadership: Leadership) -> None:
        super().__init__(name, namespace, identity, api)
        self._leadership = leadership

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                found: tuple[bool, Any] = await super().get(name, namespace)
                return found
        except _NO_ANSWER as error:
            return False, ApiException(status=0, reason=f"no answer: {error!r}")

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        return await self._renew(super().create(name, namespace, election_record))

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await self._renew(super().update(name, namespace, updated_record))

    async def _renew(self, request: Awaitable[bool]) -> bool:
        asked_at = self._leadership.now()
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                ours = await request
        except _NO_ANSWER as error:
            logger.warning("the Lease could not be written: %r", error)
            return False
        if ours:
            self._leadership.renewed(asked_at)
        return ours

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for it to expire."""
        async with asyncio.timeout(_REQUEST_SECONDS):
            await super().get(self.name, self.namespace)
            lease = self.lease_reference
            if lease is not None and lease.spec is not None and lease.spec.holder_identity == self.identity:
                lease.spec.holder_identity = None
                api: CoordinationV1Api = self.api_instance
                await api.replace_namespaced_lease(self.name, self.namespace, lease)


async def lead(
    name: str,
    namespace: str,
    identity: str,
    api: ApiClient,
    leadership: Leadership,
    work: Callable[[], Awaitable[None]],
) -> None:
    """Wait for the Lease, then run `work` for as long as it is ours. Raises LeadershipLost when it no longer is.

    What `work` raises is raised. When cancelled, the Lease is given back.
    """
    lock = _Lock(name, namespace, identity, api, leadership)
    result: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tasks: set[asyncio.Task[Any]] = set()

    async def started() -> None:
        if (task := asyncio.current_task()) is not None:
            tasks.add(task)
        logger.info("leading as %s", identity)
        try:
            await work()
        except Exception as error:
            result.set_exception(error)
        else:
            result.set_result(None)

    async def stopped() -> None:
        raise LeadershipLost(f"the Lease {namespace}/{name} is no longer ours")

    config = Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, started, stopped)
    election = asyncio.create_task(LeaderElection(config).run())
    tasks.add(election)
    try:
        done, _ = await asyncio.wait({election, result}, return_when=asyncio.FIRST_COMPLETED)
        await (result if result in done else election)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if leadership.leading:
            await _release(lock)


async def _release(lock: _Lock) -> None:
    try:
        await lock.release()
    except (*_NO_ANSWER, ApiException) as error:
        logger.warning("the Lease could not be given back: %r", error)
