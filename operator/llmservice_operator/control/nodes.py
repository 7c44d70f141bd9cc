"""Which kinds of nodes there are, as far as they may be read; read anew, often, only while a service lacks one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from llmservice_api.conditions import ConditionType
from llmservice_kube.answers import parsed
from llmservice_kube.cache import Key
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import NODE, Json
from llmservice_kube.mirror import RELIST_SECONDS, RETRY_SECONDS
from llmservice_kube.unreadable import ERRORS, Unreadable
from llmservice_operator.facts.nodes import NodeKind, node_kinds

LOOK_SECONDS = 30.0
"""Between two looks while a service lacks a node. Nodes are not watched: their kubelets report all the time."""
PATIENCE_SECONDS = 60.0
"""How long a refusal lasts before it is believed: a plan that was made without nodes is frozen."""
PAGE = 100
"""Nodes that are in memory at a time. A list of any version (`resourceVersion=0`) would not come in pages."""
_OF_NODES = (ConditionType.PLANNED, ConditionType.SCHEDULED)
"""Conditions that a new node may turn."""

logger = logging.getLogger(__name__)


class Nodes:
    """`kinds` is None until they were read, and where they may not be. `changed` is called when they are others.

    `read_at_all` = whether the installation lets them be read; then nothing may be planned before `known`. `failed` is
    told what became of a reading.
    """

    def __init__(
        self,
        client: Client,
        changed: Callable[[], None],
        *,
        read_at_all: bool = True,
        unreadable: Unreadable | None = None,
        failed: Callable[[ApiError | None], None] = lambda error: None,
        seconds: float = RELIST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._changed = changed
        self._unreadable = unreadable or Unreadable()
        self._failed = failed
        self._seconds = seconds
        self._clock = clock
        self._lacking: set[Key] = set()
        self.known = not read_at_all
        """Whether `kinds` says all that may be known, which it does from the first reading on."""
        self.kinds: tuple[NodeKind, ...] | None = None

    def told(self, key: Key, status: Json | None) -> None:
        """What was last said of a service; None when it is gone."""
        conditions = (status or {}).get("conditions", ())
        if any(entry["type"] in _OF_NODES and entry["status"] == "False" for entry in conditions):
            self._lacking.add(key)
        else:
            self._lacking.discard(key)

    async def read(self) -> None:
        """Read them anew. Raises ApiError unless it is only that they may not be read.

        A refusal is told at once, and believed when it has lasted for PATIENCE_SECONDS; until then what was known
        counts. A server that has just begun refuses what it allows a moment later, and rights are installed late.
        """
        patience = self._clock() + PATIENCE_SECONDS
        while isinstance(kinds := await self._list(), ApiError):
            self._failed(kinds)
            if self._clock() >= patience or (self.known and self.kinds is None):
                logger.info("nodes may not be read, so what fits is left to the scheduler: %s", kinds.message)
                kinds = None
                break
            await asyncio.sleep(RETRY_SECONDS)
        else:
            self._failed(None)
        first, self.known = not self.known, True
        if kinds != self.kinds or first:
            self.kinds = kinds
            self._changed()

    async def _list(self) -> tuple[NodeKind, ...] | ApiError:
        """What the server said when they may not be read."""
        lists: list[set[NodeKind]] = []

        def begin(resource_version: str) -> Callable[[Json], None]:
            lists.append(set())
            return take

        def take(node: Json) -> None:
            try:
                lists[-1].update(node_kinds((parsed(node),)))
            except ERRORS as error:
                self._unreadable.left_out(NODE, node, error)

        try:
            await self._client.list(NODE, limit=PAGE, begin=begin)
        except ApiError as error:
            if not error.refused:
                raise
            return error
        return tuple(sorted(lists[-1]))

    async def run(self) -> None:
        """Read them now and then, and look for a new one while a service lacks one, until cancelled."""
        while True:
            try:
                await self.read()
            except ApiError as error:
                self._failed(error)
                await asyncio.sleep(LOOK_SECONDS if self.known else RETRY_SECONDS)
                continue
            await self._until_due()

    async def _until_due(self) -> None:
        due = self._clock() + self._seconds
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._lacking or self._clock() >= due:
                return
