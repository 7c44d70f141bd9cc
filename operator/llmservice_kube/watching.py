"""A watch of our own, for programs that have no kopf: it brings what changed to a mirror, which lists by itself.

A watch that begins without a version is told of everything that is there, and then of what changes; so nothing is
listed beside it. It goes on at the last version that it saw. Where the server has forgotten that one, or the
connection ended in a way that nobody understands, it begins anew and says so: what went away meanwhile is in no event.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import Json, Kind
from llmservice_kube.mirror import Mirror

LIFE_SECONDS = 240
"""Of one watch, give or take a quarter: the server ends it, and it goes on where it was."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two tries of a watch that fails; twice as long each time."""

logger = logging.getLogger(__name__)

Taken = Callable[[Kind, str, Json], None]


async def watch_into(
    mirror: Mirror,
    client: Client,
    kinds: Mapping[Kind, str],
    namespaces: Sequence[str] = (),
    *,
    changed: Callable[[tuple[str, str]], None],
) -> None:
    """Watch each of `kinds` (by label selector) in each of `namespaces` (none = all) until cancelled.

    `changed` gets the service of each event that was news.
    """

    def take(kind: Kind, event: str, obj: Json) -> None:
        if (key := mirror.event(kind, event, obj)) is not None:
            changed(key)

    async with asyncio.TaskGroup() as group:
        for kind, labels in kinds.items():
            for namespace in namespaces or (None,):
                group.create_task(follow(client, kind, namespace, labels, take, mirror.gap))


async def follow(
    client: Client, kind: Kind, namespace: str | None, labels: str, take: Taken, gap: Callable[[], None]
) -> None:
    """Watch one kind until cancelled. `gap` is called each time that it begins anew."""
    version, pause = "", FIRST_PAUSE
    while True:
        begun = gap if not version else _nothing
        try:
            async with aclosing(client.watch(kind, namespace, labels, version, _life(), begun)) as events:
                async for event, obj in events:
                    version, pause = obj["metadata"]["resourceVersion"], FIRST_PAUSE
                    if event != "BOOKMARK":
                        take(kind, event, obj)
        except ApiError as error:
            logger.warning("%s; tried again in about %.1f s", error, pause)
            if not error.passing or pause > FIRST_PAUSE:  # forgotten, or a version of before the server was restored
                version = ""
        except Exception:  # of an event: the list that follows the gap does without it
            logger.exception("a watch of %s ended by a bug", kind)
            version = ""
        else:
            continue
        await asyncio.sleep(pause * random.uniform(0.75, 1.0))
        pause = min(LONGEST_PAUSE, 2 * pause)


def _nothing() -> None:
    """Nothing was lost."""


def _life() -> int:
    return round(LIFE_SECONDS * random.uniform(0.75, 1.25))
