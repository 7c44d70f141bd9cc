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
    """Run `work` with the configuration as it is served, and anew when PodMonitors come or go somewhere."""
    if config.monitoring is None:
        await work(config)
        return
    served, said = await as_served(client, config, namespaces)
    while True:
        if said:
            logger.warning("services get no PodMonitor%s until it can be listed there: %s", _except(served), said)
        working = asyncio.create_task(work(served))
        looking = asyncio.create_task(_until_other(client, config, namespaces, served, pause))
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


def _except(served: OperatorConfig) -> str:
    return f", but in {', '.join(served.monitoring.namespaces)}," if served.monitoring is not None else ""


async def _until_other(
    client: Client, config: OperatorConfig, namespaces: Sequence[str], before: OperatorConfig, pause: float
) -> tuple[OperatorConfig, str]:
    """Wait until the kind is served where it was not `before`, or was found missing twice where it was."""
    known, missed = _where(before, namespaces), 0
    while True:
        await asyncio.sleep(pause)
        try:
            served, said = await as_served(client, config, namespaces)
        except ApiError:  # an outage, which `work` tells
            continue
        now = _where(served, namespaces)
        missed = missed + 1 if known - now else 0
        if missed == 2 or (now != known and not known - now):
            return served, said


def _where(served: OperatorConfig, namespaces: Sequence[str]) -> frozenset[str | None]:
    """In which of the namespaces services get PodMonitors; None = in all there are."""
    if served.monitoring is None:
        return frozenset()
    return frozenset(served.monitoring.namespaces or namespaces or (None,))


async def as_served(client: Client, config: OperatorConfig, namespaces: Sequence[str]) -> tuple[OperatorConfig, str]:
    """The configuration, without PodMonitors where their CRD or the right is missing; and what the server said then."""
    if config.monitoring is None:
        return config, ""
    listed, said = [], ""
    for namespace in namespaces or (None,):
        try:
            await client.send("list", POD_MONITOR, POD_MONITOR.path(namespace), {"limit": "1"})
        except ApiError as error:
            if not (error.missing or error.refused):
                raise
            said = said or str(error)
        else:
            listed.append(namespace)
    if not said:
        return config, ""
    there = tuple(namespace for namespace in listed if namespace is not None)
    return dataclasses.replace(
        config, monitoring=dataclasses.replace(config.monitoring, namespaces=there) if there else None
    ), said
