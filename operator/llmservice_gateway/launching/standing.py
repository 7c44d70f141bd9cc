"""How far a launched service is. Pure, but for the wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from llmservice_api.conditions import Reason
from llmservice_gateway.errors import gateway_draining
from llmservice_gateway.launching import errors
from llmservice_gateway.launching.launcher import Download, Launcher
from llmservice_gateway.routing import Backend, Table
from llmservice_runtime.wire.errors import ApiError

LOOK_SECONDS = 0.25
UNSEEN_SECONDS = 60.0
"""A service that was made is in the table after so long."""
STANDS_SECONDS: Mapping[str, float] = {Reason.NAME_CONFLICT: 30.0}
"""How long what is wrong has to last until it counts: children of a service that was removed a moment ago still go."""
FETCHING = 0.9
"""Of all that a launch takes, as its progress is told: the rest is loading."""


def is_there(backend: Backend) -> bool:
    """A request made now is answered, perhaps after the model was woken."""
    return bool(backend.replicas) or backend.unready.reason == Reason.IDLE


def progress(backend: Backend, download: Download | None) -> dict[str, Any]:
    """`progress` from 0 to 1; until that is 1 also what it waits for, `reason` and `message`."""
    if is_there(backend):
        return {"progress": 1.0}
    why = backend.unready
    done = FETCHING if why.reason == Reason.LOADING else 0.0
    if download is not None:
        done = FETCHING * min(1.0, (download.done or 0) / max(1, download.total))
    return {"progress": done, "reason": str(why.reason), "message": f"{why.message} {why.remedy}".strip()}


def broken(backend: Backend) -> bool:
    """Waiting does not help."""
    why = backend.unready
    return not is_there(backend) and (why.final or not (why.held or why.reason == Reason.DRAINING))


def passing(backend: Backend, now: float) -> bool:
    """Of one that is broken: whether that may go by itself. `now` is Unix time."""
    why = backend.unready
    return now - why.since < STANDS_SECONDS.get(why.reason, 0.0)


def failure_of(backend: Backend) -> ApiError:
    """What is told of one that is broken."""
    why = backend.unready
    return errors.failed(backend.full_name, why.reason, f"{why.message} {why.remedy}".strip())


async def until_there(
    service: str, launcher: Launcher, table: Callable[[], Table], draining: Callable[[], bool]
) -> AsyncGenerator[Download | None]:
    """What is being brought, whenever it is looked at, until the service is there. ApiError when it won't be."""
    clock = asyncio.get_running_loop().time
    seen, end = False, clock() + UNSEEN_SECONDS
    well = clock()
    while True:
        backend = table().backends.get(service)
        if backend is not None:
            seen = True
            if is_there(backend):
                return
            if not broken(backend):
                well = clock()
            elif clock() - well >= STANDS_SECONDS.get(backend.unready.reason, 0.0):
                raise failure_of(backend)
        elif error := launcher.failure(service):
            raise error
        elif seen or clock() > end:
            raise errors.went_away(service)
        if draining():
            raise gateway_draining()
        yield launcher.download(service)
        await asyncio.sleep(LOOK_SECONDS)
