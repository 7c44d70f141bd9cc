"""Waiting for what the cluster does, with everything one wants to know when it doesn't."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

Found = TypeVar("Found")
PAUSE = 0.3
"""Seconds between two looks."""


def wait_for(
    condition: Callable[[], Found | None], what: str, seconds: float = 90, report: Callable[[], str] = lambda: ""
) -> Found:
    """Look until `condition` gives something true, and give that; AssertionError with `report()` after `seconds`.

    A condition may raise AssertionError or an HTTP error: it doesn't hold then, and the last one is told.
    """
    end, last = time.monotonic() + seconds, ""
    while True:
        try:
            if found := condition():
                return found
            last = f"last: {found!r}" if found is not None else ""
        except (AssertionError, httpx.HTTPError) as error:
            last = f"last: {type(error).__name__}: {error}"
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}. {last}\n{report()}")
        time.sleep(PAUSE)


def stays(condition: Callable[[], bool], what: str, seconds: float, report: Callable[[], str] = lambda: "") -> None:
    """Fail as soon as `condition` doesn't hold during `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), f"no longer true: {what}\n{report()}"
        time.sleep(PAUSE)
