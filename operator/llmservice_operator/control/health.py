"""What the operator knows about its own state, for probes: problems by name, and when it last heard of the cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Health:
    """`problems` make it unready; silence for longer than `patience` seconds while it leads makes it dead."""

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._heard = clock()
        self._leading = False
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
        """False when a leader heard nothing of the cluster for too long: a restart may help."""
        return not self._leading or self._clock() - self._heard < self._patience

    @property
    def ready(self) -> bool:
        """True without problems, also on standby: a replica that waits for the Lease is as it should be."""
        return not self.problems
