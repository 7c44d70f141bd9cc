"""Whether services get PodMonitors: the installation asks for them, and the cluster knows the kind."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from llmservice_operator.core.config import OperatorConfig
from llmservice_operator.kube.client import Client
from llmservice_operator.kube.errors import ApiError
from llmservice_operator.kube.kinds import POD_MONITOR

logger = logging.getLogger(__name__)


async def as_served(client: Client, config: OperatorConfig, namespaces: Sequence[str]) -> OperatorConfig:
    """The configuration, without PodMonitors where their CRD or the right is missing. Each new leader looks again."""
    if config.monitoring is None:
        return config
    try:
        for namespace in namespaces or (None,):
            await client.list(POD_MONITOR, namespace)
    except ApiError as error:
        if not (error.missing or error.refused):
            raise
        logger.warning("services get no PodMonitor: %s. Install the CRD and restart the operator.", error)
        return dataclasses.replace(config, monitoring=None)
    return config
