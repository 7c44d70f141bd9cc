"""The instance of a state folder: the one that runs, or a new one in the background."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from llmservice_cli.local.background import spawn
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.local.front import Front
from llmservice_cli.local.lock import JOIN_SECONDS, InstanceLock
from llmservice_cli.local.run import listen
from llmservice_runtime.contract.errors import UserError


def own_or_join(state: Path) -> InstanceLock | None:
    """The lock when no instance runs; None when one answers. Waits for one that is starting or ending."""
    end = time.monotonic() + JOIN_SECONDS
    while (lock := InstanceLock.acquire(state)) is None:
        with contextlib.suppress(NoInstanceError):
            Control(state).snapshot()
            return None
        if time.monotonic() > end:
            raise UserError(
                f"another instance holds {state}, but does not answer.", "End that `llmservice up` process, then retry."
            )
        time.sleep(0.05)
    return lock


@contextlib.contextmanager
def joined(state: Path, port: int, front: Front) -> Iterator[bool]:
    """Inside it there is an instance; whether it was started for this. It stays when this is left, unless it was and
    nothing was given to it: then it ends. UserError when the port is taken, or it does not come up."""
    lock = own_or_join(state)
    if lock is None:
        yield False
        return
    try:
        listener = listen(front.host, port)
    except UserError:
        lock.release()
        raise
    parent = spawn(state, lock, listener, front)
    try:
        yield True
    finally:
        os.close(parent)
