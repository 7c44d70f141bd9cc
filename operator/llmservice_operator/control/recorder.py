"""Kubernetes Events about a service: one object per sentence, counted up when it is said again.

Times of Events are in whole seconds, and in one second much can happen: a model is read, planned and brought. What has
the same time is shown in the order of names, so a name carries the moment in full, as those of Kubernetes' own do.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from llmservice_kube.client import MANAGER, Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import EVENT, Json
from llmservice_runtime.contract.plain import plain

REMEMBERED = 2000
"""Sentences whose count is known; the API server forgets Events after an hour anyway."""
MESSAGE_LIMIT = 1024

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Said:
    """An Event that was written: its name, when it was said first, and how often."""

    name: str
    first: str
    count: int = 0


class Recorder:
    """Writes Events. A failure to do so is logged and stops nothing: they are an extra, status is the truth."""

    def __init__(self, client: Client, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = client
        self._now = now
        self._last = 0
        self._said: OrderedDict[bytes, _Said] = OrderedDict()

    async def say(self, service: Json, event_type: str, reason: str, message: str) -> None:
        """Report `message` about `service`; `event_type` is Normal or Warning, `reason` one CamelCase word."""
        metadata = service["metadata"]
        told = plain(message)[:MESSAGE_LIMIT]
        now = self._now()
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        sentence = hashlib.sha256("\0".join((metadata["uid"], reason, told)).encode()).digest()[:16]
        said = self._said.pop(sentence, None) or _Said(f"{metadata['name']}.{self._moment(now):016x}", stamp)
        said.count += 1
        self._said[sentence] = said
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        event: Json = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": said.name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": service["apiVersion"],
                "kind": service["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": event_type,
            "reason": reason,
            "message": told,
            "count": said.count,
            "firstTimestamp": said.first,
            "lastTimestamp": stamp,
            "source": {"component": MANAGER},
        }
        try:
            await self._write(event, again=said.count > 1)
        except ApiError as error:
            logger.warning("%s/%s: an Event was not written: %s", metadata["namespace"], metadata["name"], error)

    def _moment(self, now: datetime) -> int:
        """Microseconds of the clock, each time more than before."""
        self._last = max(self._last + 1, int(now.timestamp() * 1_000_000))
        return self._last

    async def _write(self, event: Json, again: bool) -> None:
        """Nobody shares an Event with us: to create it costs the server less than to apply it."""
        if again:
            try:
                await self._client.merge(event, {name: event[name] for name in ("count", "lastTimestamp")})
                return
            except ApiError as error:
                if not error.missing:
                    raise  # else the server forgot it, as it does with Events
        await self._client.create(event)
