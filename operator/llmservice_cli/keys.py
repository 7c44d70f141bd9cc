"""The API keys of a cluster's gateway, written with the rights of whoever asks: one Secret, and a ConfigMap to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from llmservice_api.gateway_keys import keys_secret
from llmservice_api.gateway_usage import Days, decode, usage_map
from llmservice_cli.cluster import connected
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CONFIG_MAP, SECRET, Json, Kind
from llmservice_runtime.contract.errors import UserError

MANAGER = "llmservice-cli"
TRIES = 5
"""Of one change: somebody else may write in between."""

T = TypeVar("T")
Data = Mapping[str, str]
Change = Callable[[Data], tuple[dict[str, str | None], T]]
"""From a Secret's data: what to change of it (None = that entry goes), and what to give back. Raises UserError."""


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The keys of the gateway whose Service is `gateway` in `namespace`."""

    kubeconfig: str | None
    namespace: str
    gateway: str

    def entries(self) -> Data:
        """Every entry, as the Secret has it. Raises UserError."""
        return self.change(lambda data: ({}, data))

    def change(self, change: Change[T]) -> T:
        """Change the Secret, as soon as nobody else does. Raises UserError."""
        return asyncio.run(self._change(change))

    def usage(self) -> Days:
        """What each key used on which day. Raises UserError."""
        return asyncio.run(self._usage())

    async def _change(self, change: Change[T]) -> T:
        name = keys_secret(self.gateway)
        path = SECRET.path(self.namespace, name)
        async with connected(self.kubeconfig) as client:
            for _ in range(TRIES):
                secret = await self._get(client, SECRET, name)
                changed, found = change(secret.get("data") or {})
                if not changed:
                    return found
                body = {"metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]}, "data": changed}
                try:
                    await client.send("patch", SECRET, path, {"fieldManager": MANAGER}, body)
                except ApiError as error:
                    if not error.conflict:
                        raise self._refused("patch", SECRET, name, error) from error
                else:
                    return found
        raise UserError(f"the Secret {self.namespace}/{name} is written all the time.", "Try again.")

    async def _usage(self) -> Days:
        async with connected(self.kubeconfig) as client:
            found = await self._get(client, CONFIG_MAP, usage_map(self.gateway))
            return decode(found.get("data") or {})

    async def _get(self, client: Client, kind: Kind, name: str) -> Json:
        try:
            found = await client.get(kind, self.namespace, name)
        except ApiError as error:
            raise self._refused("get", kind, name, error) from error
        if found is None:
            raise UserError(
                f"there is no {kind} {self.namespace}/{name}: no gateway of that name asks for API keys there.",
                "Name the release's namespace (-n), the gateway's Service (--gateway); see the chart's gateway.keys.",
            )
        return found

    def _refused(self, verb: str, kind: Kind, name: str, error: ApiError) -> Exception:
        if error.status != HTTPStatus.FORBIDDEN:
            return error
        said = f"It takes the right to {verb} {kind.plural} ({name}) in {self.namespace}."
        return UserError(f"the cluster refused: {error.message}.", said)
