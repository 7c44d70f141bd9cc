"""Whether services get PodMonitors: the installation asks for them, and the cluster knows the kind, perhaps later."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import POD_MONITOR
from llmservice_operator.facts.config import OperatorConfig

LOOK_SECONDS = 60.0
"""Between two looks for the kind while it is missing."""

logger = logging.getLogger(__name__)


async def run_as_served(
    client: Client,
    config: OperatorConfig,
    namespaces: Sequence[str],
    work: Callable[[OperatorConfig], Coroutine[Any, Any, None]],
    pause: float = LOOK_SECONDS,
) -> None:
    """Run `work` with the configuration as it is served, and anew once PodMonitors can be made after all."""
    served, said = await as_served(client, config, namespaces)
    if not said:
        await work(config)
        return
    logger.warning("services get no PodMonitor until it can be listed: %s", said)
    working = asyncio.create_task(work(served))
    looking = asyncio.create_task(_until_served(client, config, namespaces, pause))
    try:
        await asyncio.wait((working, looking), return_when=asyncio.FIRST_COMPLETED)
        await (working if working.done() else looking)
    finally:
        for task in (working, looking):
            task.cancel()
        await asyncio.wait((working, looking))
    if working.cancelled():
        logger.info("services get PodMonitors from now on")
        await work(config)


async def _until_served(client: Client, config: OperatorConfig, namespaces: Sequence[str], pause: float) -> None:
    said = "not yet"
    while said:
        await asyncio.sleep(pause)
        try:
            _, said = await as_served(client, config, namespaces)
        except ApiError as error:  # an outage, which `work` tells
            said = str(error)


async def as_served(client: Client, config: OperatorConfig, namespaces: Sequence[str]) -> tuple[OperatorConfig, str]:
    """The configuration, without PodMonitors where their CRD or the right is missing; and what the server said then."""
    if config.monitoring is None:
        return config, ""
    try:
        for namespace in namespaces or (None,):
            await client.list(POD_MONITOR, namespace)
    except ApiError as error:
        if not (error.missing or error.refused):
            raise
        return dataclasses.replace(config, monitoring=None), str(error)
    return config, ""
