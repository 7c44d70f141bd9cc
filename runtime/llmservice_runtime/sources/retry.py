"""One retry policy for every source: bounded attempts, doubling pauses, the server's Retry-After."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from llmservice_runtime.sources.errors import Origin, TransientError
from llmservice_runtime.sources.settings import SourceSettings

log = logging.getLogger(__name__)
T = TypeVar("T")
LONGEST_PAUSE_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 300.0


def retry(action: Callable[[], T], origin: Origin, settings: SourceSettings, done: Callable[[], int] = lambda: 0) -> T:
    """Run `action` until it succeeds; TransientError makes it try again, HUB_UNREACHABLE ends it.

    `done` counts what was achieved so far (bytes on disk): every attempt that moved it starts the count anew, so a
    download survives any number of cuts as long as it gets on.
    """
    failures, before = 0, done()
    while True:
        try:
            return action()
        except TransientError as error:
            achieved = done()
            failures = 1 if achieved > before else failures + 1
            before = achieved
            if failures >= settings.attempts:
                raise origin.unreachable(f"{error.reason}, after {_times(failures)}") from error
            if error.retry_after is not None and error.retry_after > LONGEST_RETRY_AFTER_SECONDS:
                wait = f"{error.reason}, and it asks to wait {error.retry_after:.0f} s"
                raise origin.unreachable(wait) from error
            pause = min(LONGEST_PAUSE_SECONDS, settings.backoff_seconds * 2 ** (failures - 1))
            pause = max(pause, error.retry_after or 0.0)
            # Told as it happens: five silent attempts look like a program that hangs.
            log.warning("%s: %s; trying again in %.1f s", origin.hub, error.reason, pause)
            settings.sleep(pause)


def _times(count: int) -> str:
    return "one attempt" if count == 1 else f"{count} attempts"
