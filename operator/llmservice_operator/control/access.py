"""How services are reached that don't say it, where the installation does not say it either.

A new installation has its gateway before it has services, so it is their way in. One that ran without a gateway has
services that pods of their namespaces reach directly, and an upgrade takes that from nobody. Which of them this is, the
Lease tells: it outlives every release, and a new installation has none yet. What was found stays there, annotated.
"""

from __future__ import annotations

import asyncio
import dataclasses

from llmservice_api.v1alpha1 import EndpointAccess
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LEASE
from llmservice_kube.mirror import RETRY_SECONDS
from llmservice_operator.control.health import Health
from llmservice_operator.control.rivals import LEASE_NAME
from llmservice_operator.facts.config import OperatorConfig

ACCESS = "llmservice.dev/endpoint-access"


async def with_access(
    client: Client, config: OperatorConfig, namespace: str, said: EndpointAccess | None, health: Health
) -> OperatorConfig:
    """`config` with what its gateway is to services; `said` by the installation. Waits until the Lease can be read."""
    if config.gateway is None:
        return config
    while (found := said or await _remembered(client, namespace, health)) is None:  # noqa: ASYNC110 - it can only be asked
        await asyncio.sleep(RETRY_SECONDS)
    health.solved("access")
    return dataclasses.replace(config, gateway=dataclasses.replace(config.gateway, access=found))


async def _remembered(client: Client, namespace: str, health: Health) -> EndpointAccess | None:
    try:
        lease = await client.get(LEASE, namespace, LEASE_NAME)
    except ApiError as error:
        health.problem("access", str(error))
        return None
    if lease is None:
        return EndpointAccess.GATEWAY
    kept = lease["metadata"].get("annotations", {}).get(ACCESS)
    return EndpointAccess(kept) if kept in list(EndpointAccess) else EndpointAccess.DIRECT
