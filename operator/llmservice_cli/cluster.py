"""Asking a cluster's operator, through the API server: its pod's port is reached with the rights of whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from kubernetes.aio.config import ConfigException

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LEASE, LLM_SERVICE, POD, Json
from llmservice_kube.login import Access, login
from llmservice_runtime.contract.errors import UserError

LEASE_NAME = "llmservice-operator"
PORT = 8081
ANSWER_SECONDS = 20.0


class NoClusterError(UserError):
    """There are no credentials for any."""


def explain(kubeconfig: str | None, namespace: str, name: str) -> dict[str, Any]:
    """What the operator says of a service's scaling. Raises UserError when it says nothing, and why."""
    return asyncio.run(_explain(kubeconfig, namespace, name))


async def _explain(kubeconfig: str | None, namespace: str, name: str) -> dict[str, Any]:
    async with connected(kubeconfig) as client:
        return await _ask(client, namespace, name)


@asynccontextmanager
async def connected(kubeconfig: str | None) -> AsyncIterator[Client]:
    """A client of the cluster, for ANSWER_SECONDS. What goes wrong with it is a UserError."""
    access = await _login(kubeconfig)
    async with Client(access) as client:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield client
        except TimeoutError:
            raise UserError(f"{access.server} does not answer.", "Check the kubeconfig, and the network.") from None
        except ApiError as error:
            raise UserError(f"The cluster refused: {error}.", "See that your rights include it.") from error


async def _login(kubeconfig: str | None) -> Access:
    try:
        return await login(kubeconfig)
    except (ConfigException, OSError) as error:
        said = "Name a kubeconfig (--kubeconfig, or KUBECONFIG)."
        raise NoClusterError(f"There is no cluster to ask: {error}.", said) from error


async def _ask(client: Client, namespace: str, name: str) -> dict[str, Any]:
    service = await client.get(LLM_SERVICE, namespace, name)
    if service is None:
        raise UserError(f"there is no LLMService {namespace}/{name}.", "`kubectl get llmsvc -A` lists them.")
    if why := _decided_by(service):
        raise UserError(f"demand decides nothing about {namespace}/{name}: {why}.", "Set spec.scaling.mode: Managed.")
    installation = service.get("status", {}).get("installation")
    if not installation:
        raise UserError(f"no operator has looked at {namespace}/{name} yet.", "See that one runs.")
    pod = await _leader(client, installation)
    path = f"{POD.path(installation, f'{pod}:{PORT}', 'proxy')}/scaling/{namespace}/{name}"
    try:
        return await client.send("get", POD, path)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            said = f"nothing was decided about {namespace}/{name} yet: it has no plan in force, or its spec is wrong."
            raise UserError(said, f"See `kubectl describe llmsvc {name} -n {namespace}`.") from error
        if error.status == HTTPStatus.FORBIDDEN:
            said = f"you may not ask the operator: {error.message}."
            raise UserError(said, f"It takes the right to get pods/proxy in {installation}.") from error
        raise


async def _leader(client: Client, installation: str) -> str:
    lease = await client.get(LEASE, installation, LEASE_NAME)
    holder = str((lease or {}).get("spec", {}).get("holderIdentity") or "")
    if not holder:
        raise UserError(f"no operator leads in {installation}.", "See that one runs.")
    return holder.rpartition("_")[0]


def _decided_by(service: Json) -> str:
    """Who decides where demand does not."""
    scaling = service["spec"].get("scaling")
    if scaling is None:
        return "it has no spec.scaling"
    mode = scaling.get("mode", "Managed")
    return "" if mode == "Managed" else f"spec.scaling.mode is {mode}"
