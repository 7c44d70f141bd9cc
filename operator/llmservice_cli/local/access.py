"""The gateway's access log in the state folder, bounded as the replicas' logs are."""

from __future__ import annotations

import os
from pathlib import Path

from llmservice_cli.local.process import rotate
from llmservice_runtime.contract.outlet import Outlet

LOOK_BYTES = 1 << 20
"""Its size is looked at after so much was written."""


class AccessLog:
    """Opened with the first line. A full disk, or one that stands still, costs lines and holds up nobody."""

    def __init__(self, state: Path) -> None:
        self.path = state / "logs" / "access.log"
        self._outlet: Outlet | None = None
        self._written = 0

    def write(self, line: bytes) -> None:
        """One line, with its end."""
        outlet = self._outlet = self._outlet or self._opened()
        if outlet is None:
            return
        outlet.write(line)
        self._written += len(line)
        if self._written > LOOK_BYTES:
            self._written = 0
            rotate(self.path)

    def flush(self) -> None:
        """Before the end: what is still on its way."""
        if self._outlet is not None:
            self._outlet.flush()

    def _opened(self) -> Outlet | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return Outlet(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            return None
