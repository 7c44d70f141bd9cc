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
"""Between two looks whether the kind is served."""

logger = logging.getLogger(__name__)


async def run_as_served(
    client: Client,
    config: OperatorConfig,
    namespaces: Sequence[str],
    work: Callable[[OperatorConfig], Coroutine[Any, Any, None]],
    pause: float = LOOK_SECONDS,
) -> None:
    """Run `work` with the configuration as it is served, and anew when PodMonitors begin or cease to be served."""
    if config.monitoring is None:
        await work(config)
        return
    served, said = await as_served(client, config, namespaces)
    while True:
        if said:
            logger.warning("services get no PodMonitor until it can be listed: %s", said)
        working = asyncio.create_task(work(served))
        looking = asyncio.create_task(_until_other(client, config, namespaces, bool(said), pause))
        try:
            await asyncio.wait((working, looking), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
                return
            served, said = await looking
        finally:
            for task in (working, looking):
                task.cancel()
            await asyncio.wait((working, looking))
        if not said:
            logger.info("services get PodMonitors from now on")


async def _until_other(
    client: Client, config: OperatorConfig, namespaces: Sequence[str], missing: bool, pause: float
) -> tuple[OperatorConfig, str]:
    """Wait until the kind is served although it was `missing`, or was found missing twice although it was served."""
    other = 0
    while True:
        await asyncio.sleep(pause)
        try:
            served, said = await as_served(client, config, namespaces)
        except ApiError:  # an outage, which `work` tells
            continue
        other = other + 1 if bool(said) != missing else 0
        if other == (1 if missing else 2):
            return served, said


async def as_served(client: Client, config: OperatorConfig, namespaces: Sequence[str]) -> tuple[OperatorConfig, str]:
    """The configuration, without PodMonitors where their CRD or the right is missing; and what the server said then."""
    if config.monitoring is None:
        return config, ""
    try:
        for namespace in namespaces or (None,):
            await client.send("list", POD_MONITOR, POD_MONITOR.path(namespace), {"limit": "1"})
    except ApiError as error:
        if not (error.missing or error.refused):
            raise
        return dataclasses.replace(config, monitoring=None), str(error)
    return config, ""
