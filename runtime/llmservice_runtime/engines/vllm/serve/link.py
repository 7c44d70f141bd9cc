"""What the plug-ins of one process tell the supervisor, and what it tells them. One per process.

A plug-in that vLLM never came to is named when the load takes too long: every phase says which are still awaited.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.engines.vllm.plugins import NAMES
from llmservice_runtime.openai.reports import Reporter

log = logging.getLogger(__name__)


class Link:
    """The pipes to the supervisor, and which plug-ins have come."""

    def __init__(self, reporter: Reporter, started: float) -> None:
        self.reporter = reporter
        self._started = started
        self._awaited = list(NAMES)

    @property
    def awaited(self) -> tuple[str, ...]:
        """Plug-ins that vLLM has not loaded yet."""
        return tuple(self._awaited)

    @property
    def seconds(self) -> float:
        """Since the process began."""
        return time.monotonic() - self._started

    def came(self, plugin: str, phase: Phase) -> None:
        """A plug-in is loaded; what is done until the next one comes is `phase`."""
        if plugin in self._awaited:
            self._awaited.remove(plugin)
        self.phase(phase)

    def phase(self, phase: Phase) -> None:
        """A phase, with the plug-ins that have not come."""
        self.reporter.phase(phase, detail=waiting_for(self._awaited))

    @contextmanager
    def or_end(self, plugin: str) -> Iterator[None]:
        """What goes wrong in a plug-in of ours ends the process with its name: vLLM would log it and go on without."""
        try:
            yield
        except Exception as error:
            log.exception("our plug-in %s failed", plugin)
            self.reporter.failure(error if isinstance(error, UserError) else broken(plugin, error))
            os._exit(1)


def broken(plugin: str, error: Exception) -> UserError:
    """A plug-in that can't be loaded, or failed, as the failure of the load."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    said = next(iter(str(error).splitlines()), "")
    reason = f"Our plug-in {plugin} failed in vLLM: {type(error).__name__}: {said}".rstrip(": ")
    missing = isinstance(error, ImportError)
    return UserError(
        f"{reason}.",
        "Install the engine again: llmservice install vllm --rebuild. If that changes nothing, report a bug.",
        FailureClass.ENGINE_NOT_INSTALLED if missing else FailureClass.CRASHED,
    )


def waiting_for(plugins: list[str] | tuple[str, ...]) -> str:
    """What a load still waits for, for the message of one that took too long."""
    return f"vLLM has not loaded the plug-in {', '.join(plugins)} yet" if plugins else ""


def _process_seconds() -> float:
    """How long this process runs already, by the kernel's count: exec keeps it."""
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    ticks = int(stat.rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


LINK = Link(Reporter.from_environment(), time.monotonic() - _process_seconds())
