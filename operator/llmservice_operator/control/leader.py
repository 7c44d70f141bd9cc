"""Leadership by a Lease (kubernetes.aio's election): one process writes, the others stand by.

The election runs in a thread of its own: work that keeps our loop busy must not cost us the Lease. It measures by the
wall clock, so leadership is fenced by a monotonic one as well: a process that was stopped for a minute finds its fence
closed before it can write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError, LeadershipLost
from llmservice_kube.kinds import LEASE, Json
from llmservice_kube.login import Access
from llmservice_operator.control.thread import in_a_thread

LEASE_SECONDS = 12
RENEW_SECONDS = 8
RETRY_SECONDS = 1
"""A standby sees up to RETRY_SECONDS late that the Lease was renewed, and as late that it has run out: it leads at most
14 s after the leader died. Requests held at gateways wait for that."""
_REQUEST_SECONDS = 3.0

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


class LeaseLock(BaseLock):
    """The library's lock over our own client: the library's own one can't create a Lease in its version 37.

    No answer in time is a failure to retry, like any other.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str,
        identity: str,
        leadership: Leadership,
        asked: Callable[[], None],
        annotations: Mapping[str, str],
        seen: Callable[[Json], None],
        pod: str = "",
    ) -> None:
        super().__init__(name, namespace, identity)
        self._pod = pod
        self._client = client
        self._leadership = leadership
        self._asked = asked
        self._annotations = annotations
        self._seen = seen
        self._lease: Json = {}

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """The Lease's record; the error's body says 404 when there is none, as the election wants it."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                lease = await self._client.get(LEASE, namespace, name)
        except (ApiError, TimeoutError) as error:
            return False, ApiException(status=0, reason=str(error) or "timed out")
        finally:
            self._asked()
        if lease is None:
            missing = ApiException(status=404, reason="NotFound")
            missing.body = '{"code": 404}'
            return False, missing
        self._lease, spec = lease, lease.get("spec", {})
        self._seen(lease)
        seconds = spec.get("leaseDurationSeconds")
        return True, LeaderElectionRecord(
            holder_identity=self._living(spec.get("holderIdentity") or None),
            lease_duration=str(seconds) if seconds else None,
            acquire_time=spec.get("acquireTime"),
            renew_time=spec.get("renewTime"),
        )

    def _living(self, holder: str | None) -> str | None:
        """The holder; None where it was this pod's container before: the kubelet began this one because that ended."""
        if holder and self._pod and holder != self.identity and holder.rpartition("_")[0] == self._pod:
            logger.info("the leader was %s, which has ended in this pod: its Lease is free", holder)
            return None
        return holder

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Make the Lease; False when somebody else was first."""
        lease = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": name, "namespace": namespace, "annotations": dict(self._annotations)},
            "spec": _spec(election_record),
        }
        return await self._written(self._client.create(lease))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Write the Lease that `get` read; False when it was changed since."""
        spec = {**self._lease.get("spec", {}), **_spec(updated_record)}
        known = self._lease["metadata"]
        metadata = {**known, "annotations": {**known.get("annotations", {}), **self._annotations}}
        return await self._written(self._client.replace({**self._lease, "metadata": metadata, "spec": spec}))

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for it to expire."""
        await self.get(self.name, self.namespace)
        spec = self._lease.get("spec", {})
        if spec.get("holderIdentity") == self.identity:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._client.replace({**self._lease, "spec": {**spec, "holderIdentity": ""}})

    async def _written(self, request: Awaitable[Json | None]) -> bool:
        asked_at = self._leadership.now()
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                ours = await request is not None
        except (ApiError, TimeoutError) as error:
            logger.warning("the Lease could not be written: %s", error or "timed out")
            return False
        if ours:
            self._leadership.renewed(asked_at)
        return ours


def _spec(record: LeaderElectionRecord) -> Json:
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(record.lease_duration or LEASE_SECONDS),
        "acquireTime": _time(record.acquire_time),
        "renewTime": _time(record.renew_time),
    }


def _time(text: str | None) -> str | None:
    """The election's own times are local and without a zone; those that were read from a Lease have one."""
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def lead(
    access: Access,
    name: str,
    namespace: str,
    identity: str,
    leadership: Leadership,
    work: Callable[[], Coroutine[Any, Any, None]],
    asked: Callable[[], None] = lambda: None,
    annotations: Mapping[str, str] = MappingProxyType({}),
    seen: Callable[[Json], None] = lambda _: None,
    pod: str = "",
) -> None:
    """Wait for the Lease, then run `work` for as long as it is ours. Raises LeadershipLost when it no longer is.

    What `work` raises is raised. When cancelled, the Lease is given back. `asked` is called, in the election's thread,
    each time that the API server was asked for the Lease, whatever it answered. `annotations` are what the holder says
    of itself on the Lease; `seen` gets the Lease each time that it was read, in the caller's loop. `pod`: the name
    of a pod that has one process like this at a time, with identities `POD_ANYTHING`; empty = there may be more.
    """
    here = asyncio.get_running_loop()
    won = asyncio.Event()

    async def started() -> None:
        here.call_soon_threadsafe(won.set)

    async def stopped() -> None:
        raise LeadershipLost(f"the Lease {namespace}/{name} is no longer ours")

    def tell(lease: Json) -> None:
        if not here.is_closed():
            here.call_soon_threadsafe(seen, lease)

    async def stand() -> None:
        async with Client(access) as client:
            lock = LeaseLock(client, name, namespace, identity, leadership, asked, annotations, tell, pod)
            config = Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, started, stopped)
            try:
                await LeaderElection(config).run()
            except asyncio.CancelledError:  # told to stop, and the work has ended
                if leadership.leading:
                    await _release(lock)
                raise

    async with in_a_thread("election", stand) as ended:
        await _until_ended(won.wait(), ended)
        logger.info("leading as %s", identity)
        await _until_ended(work(), ended)


async def _until_ended(working: Coroutine[Any, Any, Any], ended: asyncio.Future[None]) -> None:
    """Await `working`; once the election has ended, cancel it and raise what ended the election."""
    task = asyncio.create_task(working)
    try:
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        await (task if task.done() else ended)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _release(lock: LeaseLock) -> None:
    try:
        await lock.release()
    except (ApiError, TimeoutError) as error:
        logger.warning("the Lease could not be given back: %s", error)
