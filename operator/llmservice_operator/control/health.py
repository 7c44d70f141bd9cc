"""What the operator knows about its own state, for probes: problems by name, and when it last heard of the cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


ASK_SECONDS = 60.0
"""Every replica asks for the Lease every 2 s, which takes 4 s at most: after so long without, its election hangs."""


class Health:
    """`problems` make it unready. Dead is a leader that heard nothing for longer than `patience` seconds, and any
    replica that no longer asks for the Lease."""

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._heard = clock()
        self._leading = False
        self._asked: float | None = None
        self._problems: dict[str, tuple[str, float]] = {}

    @property
    def leading(self) -> bool:
        """Whether this replica does the work."""
        return self._leading

    def lead(self) -> None:
        """This replica does the work from now on."""
        self._leading = True
        self.heard()

    def heard(self) -> None:
        """The API server told us something."""
        self._heard = self._clock()

    def asked(self) -> None:
        """The API server was asked for the Lease, whatever it answered: an outage is no reason to restart."""
        self._asked = self._clock()

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong now, by name."""
        now = self._clock()
        return {name: message for name, (message, until) in self._problems.items() if now < until}

    def problem(self, name: str, message: str, seconds: float = float("inf")) -> None:
        """Something is wrong; logged when it is new or says something new. It counts for that many seconds at most."""
        if self.problems.get(name) != message:
            logger.error("%s: %s", name, message)
        self._problems[name] = message, self._clock() + seconds

    def solved(self, name: str) -> None:
        """It is right again."""
        if self._problems.pop(name, None) is not None:
            logger.info("%s: solved", name)

    @property
    def alive(self) -> bool:
        """False when a restart may help."""
        now = self._clock()
        if self._asked is not None and now - self._asked >= ASK_SECONDS:
            return False
        return not self._leading or now - self._heard < self._patience

    @property
    def ready(self) -> bool:
        """True without problems, also on standby: a replica that waits for the Lease is as it should be."""
        return not self.problems
