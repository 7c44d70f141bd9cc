"""Kubernetes Events about a service: one object per sentence, counted up when it is said again."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from llmservice_kube.client import MANAGER, Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import EVENT, Json

REMEMBERED = 2000
"""Sentences whose count is known; the API server forgets Events after an hour anyway."""
MESSAGE_LIMIT = 1024

logger = logging.getLogger(__name__)


class Recorder:
    """Writes Events. A failure to do so is logged and stops nothing: they are an extra, status is the truth."""

    def __init__(self, client: Client, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = client
        self._now = now
        self._life = uuid.uuid4().hex
        self._said: OrderedDict[str, tuple[int, str]] = OrderedDict()

    async def say(self, service: Json, event_type: str, reason: str, message: str) -> None:
        """Report `message` about `service`; `event_type` is Normal or Warning, `reason` one CamelCase word."""
        metadata = service["metadata"]
        told = message[:MESSAGE_LIMIT]
        digest = hashlib.sha256("\0".join((self._life, metadata["uid"], reason, told)).encode()).hexdigest()[:16]
        name = f"{metadata['name']}.{digest}"
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        count, first = self._said.pop(name, (0, now))
        self._said[name] = count + 1, first
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        event: Json = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": metadata["namespace"]},
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
            "count": count + 1,
            "firstTimestamp": first,
            "lastTimestamp": now,
            "source": {"component": MANAGER},
        }
        try:
            await self._write(event, again=count > 0)
        except ApiError as error:
            logger.warning("%s/%s: an Event was not written: %s", metadata["namespace"], metadata["name"], error)

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
