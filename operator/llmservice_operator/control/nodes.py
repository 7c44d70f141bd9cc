"""Which kinds of nodes there are, as far as they may be read; read anew, often, only while a service lacks one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from llmservice_api.conditions import ConditionType
from llmservice_kube.cache import Key
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import NODE, Json
from llmservice_operator.facts.nodes import NodeKind, node_kinds

LOOK_SECONDS = 30.0
"""Between two looks while a service lacks a node. Nodes are not watched: their kubelets report all the time."""
PAGE = 100
"""Nodes that are in memory at a time. A list of any version (`resourceVersion=0`) would not come in pages."""
_OF_NODES = (ConditionType.PLANNED, ConditionType.SCHEDULED)
"""Conditions that a new node may turn."""

logger = logging.getLogger(__name__)


class Nodes:
    """`kinds` is None until they were read, and where they may not be. `changed` is called when they are others."""

    def __init__(self, client: Client, changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._lacking: set[Key] = set()
        self.kinds: tuple[NodeKind, ...] | None = None

    def told(self, key: Key, status: Json | None) -> None:
        """What was last said of a service; None when it is gone."""
        conditions = (status or {}).get("conditions", ())
        if any(entry["type"] in _OF_NODES and entry["status"] == "False" for entry in conditions):
            self._lacking.add(key)
        else:
            self._lacking.discard(key)

    async def read(self) -> None:
        """Read them anew. Raises ApiError unless it is only that they may not be read."""
        found: set[NodeKind] = set()
        kinds: tuple[NodeKind, ...] | None
        try:
            await self._client.list(NODE, limit=PAGE, each=lambda node: found.update(node_kinds((node,))))
            kinds = tuple(sorted(found))
        except ApiError as error:
            if not error.refused:
                raise
            logger.info("nodes may not be read, so what fits is left to the scheduler: %s", error.message)
            kinds = None
        if kinds != self.kinds:
            self.kinds = kinds
            self._changed()

    async def run(self) -> None:
        """Look for a new node while a service lacks one, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._lacking:
                try:
                    await self.read()
                except ApiError as error:
                    logger.warning("nodes could not be read: %s", error)
