"""The first key of a gateway that asks for keys: made once, where there are none yet.

A program makes it, not the chart: what is rendered twice must be the same. Two Secrets are written, the key as whoever
installs reads it, then the list of keys, which has only its hash. Once that list is there nothing is made any more,
whatever was revoked; Secrets outlive releases, and a crash in between is made good by the next look.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping

from llmservice_api.gateway_keys import (
    FIRST,
    FIRST_FIELD,
    encoded,
    first_key_secret,
    keys_secret,
    new_key,
    record_of,
)
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import SECRET, Json
from llmservice_operator.control.health import Health

LOOK_SECONDS = 60.0
RETRY_SECONDS = 5.0
ABOUT = "keys"
"""What readiness calls it."""

logger = logging.getLogger(__name__)


class FirstKey:
    """Of the gateway whose Service is `gateway`, in `namespace`; both Secrets get `labels`."""

    def __init__(self, client: Client, namespace: str, gateway: str, labels: Mapping[str, str], health: Health) -> None:
        self._client, self._health = client, health
        self._namespace, self._gateway, self._labels = namespace, gateway, dict(labels)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            problem = await self._look()
            if problem:
                self._health.problem(ABOUT, problem)
            else:
                self._health.solved(ABOUT)
            await asyncio.sleep(RETRY_SECONDS if problem else LOOK_SECONDS)

    async def _look(self) -> str:
        """Why there are no keys; empty = there are."""
        try:
            return await self.make()
        except ApiError as error:
            return f"the gateway's first API key can't be made: {error}"

    async def make(self) -> str:
        """Make it unless keys are there; why it can't be. Raises ApiError."""
        listed, shown = keys_secret(self._gateway), first_key_secret(self._gateway)
        if await self._client.get(SECRET, self._namespace, listed) is not None:
            return ""
        key = new_key()
        if await self._client.create(self._secret(shown, {FIRST_FIELD: _base64(key)})) is None:
            key = _shown(await self._client.get(SECRET, self._namespace, shown))
            if not key:
                return f"the Secret {self._namespace}/{shown} has no `{FIRST_FIELD}`: delete it, and another is made"
        if await self._client.create(self._secret(listed, {FIRST: encoded(record_of(key))})) is not None:
            logger.info("the gateway's first API key is in the Secret %s/%s", self._namespace, shown)
        return ""

    def _secret(self, name: str, data: Mapping[str, str]) -> Json:
        metadata = {"name": name, "namespace": self._namespace, "labels": self._labels}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": dict(data)}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _shown(secret: Json | None) -> str:
    try:
        return base64.b64decode(((secret or {}).get("data") or {}).get(FIRST_FIELD, ""), validate=True).decode()
    except ValueError:
        return ""
